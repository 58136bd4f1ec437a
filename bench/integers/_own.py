"""Our own forms: `addax.optimize` as a user calls it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

import addax
from addax.backends.to_ort import to_ort
from addax.frontend import to_ir
from addax.runtime.session import Session
from bench.integers._judge import Form, Predict
from bench.integers._tasks import Task

FOLD, INTEGERS, ATTENTION, CODES = (
    "layernorm-reparam",
    "int8{smallest=512}",
    "int8-attention",
    "log2-softmax",
)


@dataclass(frozen=True)
class Own:
    """A call of `optimize`: its target, what it allows, and the bits where they are not 8."""

    target: str
    allow: tuple[str, ...]
    bits: str | None = None


OWN = {
    "addax W8A8, portable, no fold": Own("portable", (INTEGERS,)),
    "addax W8A8, portable": Own("portable", (FOLD, INTEGERS)),
    "addax W8A8, portable, attention": Own("portable", (FOLD, INTEGERS, ATTENTION)),
    "addax W8A8": Own("host", (FOLD, INTEGERS)),
    "addax W8A8, codes": Own("host", (FOLD, INTEGERS, CODES)),
    "addax W6A6, codes": Own("host", (FOLD, INTEGERS, ATTENTION, CODES), "w6a6"),
    "addax W4A8, codes": Own("host", (FOLD, INTEGERS, CODES), "w4a8"),
    "addax W4A4, linear": Own("host", (FOLD, INTEGERS, CODES), "w4a4"),
    "addax W4A4": Own("host", (FOLD, INTEGERS, ATTENTION, CODES), "w4a4"),
    "addax W4A4, portable": Own("portable", (FOLD, INTEGERS, ATTENTION), "w4a4"),
}
QUICK = ("addax W8A8, portable, no fold", "addax W8A8, portable", "addax W4A4, portable")


class Source:
    """A network, exported once for all that is made of it."""

    def __init__(self, task: Task) -> None:
        self.graph = to_ir(task.model, task.example, dynamic_shapes=task.dynamic_shapes)
        self.calibration = task.calibration

    def made(
        self, *allow: str, target: str = "portable", bits: str | None = None
    ) -> addax.Optimized:
        """The network as `optimize` makes it."""
        data = self.calibration if allow else None
        return addax.optimize(
            self.graph, target=target, allow=allow, calibration=data, bits=bits, progress=False
        )


def runner(made: addax.Optimized) -> Predict:
    """A result on one thread, with its kernels."""
    library = made.kernels
    graph = to_ort(made.model) if library is None else to_ort(made.model, has_kernel=library.has)
    session = Session(graph, threads=1, library=None if library is None else library.path)
    names = [port.name for port in session.inputs]

    def predict(*inputs: np.ndarray) -> np.ndarray:
        return next(iter(session.run(dict(zip(names, inputs, strict=True))).values()))

    return predict


def own_forms(task: Task, source: Source, quick: bool) -> Iterator[Form]:
    """How each form is made. An `OptionError` says that this version has none such."""
    for name in QUICK if quick else OWN:
        form = OWN[name]
        # Where nothing folds, the form without the fold is the next one.
        if task.folds or FOLD in form.allow:
            yield name, partial(_ready, source, form)


def _ready(source: Source, form: Own) -> Predict:
    return runner(source.made(*form.allow, target=form.target, bits=form.bits))
