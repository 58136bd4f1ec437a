"""Transformers in integers: networks with their data, rivals, our own forms, one judge."""

from bench.integers._judge import Form, Judge
from bench.integers._own import Source, own_forms, runner
from bench.integers._rivals import rival_forms
from bench.integers._tasks import STRETCHED, TASKS, Task

__all__ = [
    "STRETCHED",
    "TASKS",
    "Form",
    "Judge",
    "Source",
    "Task",
    "own_forms",
    "rival_forms",
    "runner",
]
