"""Faults that optimizing a model can have, each a question that `bisect` and `reduce` ask again.

A fault is asked with the original and a number of rewrites to stop after (None: all of them), and
answers with what went wrong in one line, or with None.
"""

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from addax.errors import AddaxError, EvaluationError, InputError
from addax.ir.equivalence import compare, draw_feeds
from addax.ir.model import clone, save
from addax.passes._pipeline import Pipeline, run_pipeline

Fault = Callable[[ir.Model, int | None], str | None]
Feeds = Mapping[str, np.ndarray]


def optimized(model: ir.Model, pipeline: Pipeline | None, fuel: int | None) -> ir.Model:
    """A copy of a model after so many rewrites."""
    copy = clone(model)
    run_pipeline(copy, pipeline, fuel=fuel)
    return copy


@dataclass(frozen=True)
class Differs:
    """The optimized model computes something else, on the given or on drawn inputs.

    A model that the comparison cannot judge has no such fault.
    """

    pipeline: Pipeline | None = None
    feeds: Iterable[Feeds] | None = None

    def __call__(self, model: ir.Model, fuel: int | None) -> str | None:
        """What differs."""
        after = optimized(model, self.pipeline, fuel)
        try:
            found = compare(model, after, feeds=self.feeds)
        except (InputError, EvaluationError):
            return None
        return found.detail if found.verdict == "different" else None


@dataclass(frozen=True)
class Crashes:
    """Optimizing raises an error, of one kind if `like` is given."""

    pipeline: Pipeline | None = None
    like: type[BaseException] | None = None

    def __call__(self, model: ir.Model, fuel: int | None) -> str | None:
        """The error."""
        try:
            optimized(model, self.pipeline, fuel)
        except Exception as error:  # a crash is any error at all
            if self.like is None or type(error) is self.like:
                return f"{type(error).__name__}: {error}".splitlines()[0]
        return None


@dataclass(frozen=True)
class Fails:
    """A command of the caller's fails on the optimized model.

    `{}` in the command stands for the path of the model; without one it comes last. The model is
    written as it is after the rewrites.
    """

    command: str
    pipeline: Pipeline | None = None
    timeout: float = 600.0
    _words: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        words = shlex.split(self.command)
        if not words:
            raise InputError("expected a command to run on each model, got an empty one")
        if not any("{}" in word for word in words):
            words.append("{}")
        object.__setattr__(self, "_words", tuple(words))

    def __call__(self, model: ir.Model, fuel: int | None) -> str | None:
        """The command's exit code, if it is not 0."""
        from addax.backends.to_ort import to_ort

        after = optimized(model, self.pipeline, fuel)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            save(to_ort(after), path)
            words = [word.replace("{}", str(path)) for word in self._words]
            try:
                done = subprocess.run(  # noqa: S603 - the caller's own command, without a shell
                    words, capture_output=True, timeout=self.timeout, check=False
                )
            except FileNotFoundError as error:
                raise InputError(f"the command {words[0]!r} was not found") from error
            except subprocess.TimeoutExpired:
                return f"the command took longer than {self.timeout:.0f} s"
        return f"the command ended with {done.returncode}" if done.returncode else None


def optimizing(
    model: ir.Model, pipeline: Pipeline | None = None, feeds: Iterable[Feeds] | None = None
) -> Fault:
    """What to look for in a model that is not well after optimizing: its crash, or a difference."""
    try:
        optimized(model, pipeline, None)
    except Exception as error:  # a crash is any error at all
        return Crashes(pipeline, type(error))
    if feeds is None:
        try:
            quick = Differs(pipeline, [draw_feeds(model)])
        except InputError:
            return Differs(pipeline)
        if ask(quick, model) is not None:
            return quick  # one set of inputs that shows it is enough, and a third of the work
    return Differs(pipeline, feeds)


def ask(fault: Fault, model: ir.Model, fuel: int | None = None) -> str | None:
    """The fault of a model; one that cannot be optimized at all has that one."""
    try:
        return fault(model, fuel)
    except AddaxError as error:
        if isinstance(error, InputError):
            raise
        return f"{type(error).__name__}: {error}".splitlines()[0]


__all__ = ["Crashes", "Differs", "Fails", "Fault", "ask", "optimized", "optimizing"]
