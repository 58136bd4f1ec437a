"""Calibration data: batches of real inputs, read once, and any value of a model observed on them.

The batches go to a temporary file as they come, so that memory holds one at a time.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.backends.to_ort import to_ort
from addax.errors import InputError
from addax.ir.model import clone, prune
from addax.ir.query import constant_tensor, shape
from addax.runtime._walk import Walk
from addax.runtime.session import Session


class Batches:
    """Batches of inputs of `model`, checked and stored; the `Calibration` of the passes.

    Args:
        model: Its inputs say what a batch must look like.
        batches: Each a tensor or array where the model has one input; a tuple or list of them in
            the order of the inputs; or a mapping by name. Read once, one at a time.
        tell: Called with what is done now, for a progress line.

    Raises:
        InputError: If `batches` is no iterable, is empty, or a batch does not fit the inputs or
            holds NaN or infinity; says which.
    """

    def __init__(
        self,
        model: ir.Model,
        batches: Iterable[Any],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._inputs = [v for v in model.graph.inputs if constant_tensor(v) is None]
        self._tell = tell
        # Open for as long as the batches are needed, so no block can close it.
        self._file = tempfile.TemporaryFile(prefix="addax-calibration-")  # noqa: SIM115
        self._sizes: list[int] = []
        self._places: list[list[int]] = []  # of each array of each batch in the file
        names = [value.name for value in self._inputs]
        if isinstance(batches, (str, bytes, Mapping)) or not isinstance(batches, Iterable):
            raise InputError(
                f"calibration: expected an iterable of batches for the inputs {names}, "
                f"got {type(batches).__name__}"
            )
        for number, batch in enumerate(batches):
            arrays = self._arrays(batch, f"calibration batch {number}")
            self._places.append([])
            for array in arrays:
                self._places[-1].append(self._file.tell())
                np.save(self._file, array, allow_pickle=False)
            self._sizes.append(len(arrays[0]) if arrays and arrays[0].ndim else 1)
            tell(f"reading calibration data ({self.samples} samples)")
        if not self.samples:
            raise InputError(f"calibration: expected batches for the inputs {names}, got none")

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return sum(self._sizes)

    def sizes(self) -> tuple[int, ...]:
        """The number of samples of each batch."""
        return tuple(self._sizes)

    def observe(
        self, model: ir.Model, values: Sequence[ir.Value]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """For each batch, the arrays that `values` of the main graph of `model` have on it."""
        names = [str(value.name) for value in values]
        is_made = any(value.producer() is not None for value in values)
        session = Session(to_ort(_up_to(model, names))) if is_made else None
        needed = [] if session is None else [port.name for port in session.inputs]
        done = 0
        for size, feeds in zip(self._sizes, self.feeds(), strict=True):
            given = {name: feeds[name] for name in needed}
            outputs = {} if session is None else session.run(given)
            done += size
            self._tell(f"observing {names[-1]} ({done} of {self.samples} samples)")
            yield tuple(feeds[n] if n in feeds else outputs[n] for n in names)

    def walk(self, model: ir.Model) -> Walk:
        """Observe values from the inputs on, while what comes after them is being rewritten."""
        return Walk(model, self.sizes(), self.feeds, self._tell)

    def feeds(self) -> Iterator[dict[str, np.ndarray]]:
        """The batches again, each as arrays by input."""
        for places in self._places:
            feeds = {}
            for value, place in zip(self._inputs, places, strict=True):
                self._file.seek(place)
                feeds[str(value.name)] = np.load(self._file, allow_pickle=False)
            yield feeds

    def _arrays(self, batch: Any, where: str) -> list[np.ndarray]:
        """A batch as arrays in the order of the inputs."""
        names = [str(value.name) for value in self._inputs]
        if isinstance(batch, Mapping):
            if set(batch) != set(names):
                raise InputError(f"{where}: expected the inputs {names}, got {list(batch)}")
            batch = [batch[name] for name in names]
        items = list(batch) if isinstance(batch, (tuple, list)) else [batch]
        if len(items) != len(names):
            raise InputError(
                f"{where}: expected {len(names)} arrays, for {names}, got {len(items)}; leave out "
                "what the model does not take, such as labels"
            )
        pairs = zip(self._inputs, items, strict=True)
        return [_fitted(value, item, where) for value, item in pairs]


def _fitted(value: ir.Value, item: Any, where: str) -> np.ndarray:
    """One array of a batch, in the input's element type."""
    array = np.asarray(item.detach().cpu().numpy() if hasattr(item, "detach") else item)
    dims, wanted = shape(value), None if value.dtype is None else value.dtype.numpy()
    said = f"{where}: input {value.name!r}"
    if array.dtype.kind not in "fiub" or (
        wanted is not None and (wanted.kind == "f") != (array.dtype.kind == "f")
    ):
        raise InputError(f"{said} is {wanted}{list(dims or ())}, got {array.dtype} elements")
    if dims is not None:
        fits = len(dims) == array.ndim and all(
            not isinstance(d, int) or d == n for d, n in zip(dims, array.shape, strict=True)
        )
        if not fits:
            raise InputError(f"{said} has the shape {list(dims)}, got {list(array.shape)}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{said} holds NaN or infinity")
    return array if wanted is None else array.astype(wanted, copy=False)


def _up_to(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy of the part of a model that computes the values of these names."""
    part = clone(model)
    found = {v.name: v for node in part.graph for v in node.outputs}
    found |= {v.name: v for v in part.graph.inputs}
    kept = [found[name] for name in names if not found[name].is_graph_input()]
    part.graph.outputs.clear()
    part.graph.outputs.extend(kept)
    prune(part)
    return part


def output_error(calibration: Batches, before: ir.Model, after: ir.Model) -> dict[str, float]:
    """How far `after` is from `before` on all samples, for each floating output by name.

    The root of the summed squared difference over the summed square of the output.
    """
    sessions = Session(to_ort(before)), Session(to_ort(after))
    missed: dict[str, float] = {}
    whole: dict[str, float] = {}
    for feeds in calibration.feeds():
        old, new = (
            session.run({port.name: feeds[port.name] for port in session.inputs})
            for session in sessions
        )
        for name, array in old.items():
            if array.dtype.kind == "f" and new[name].shape == array.shape:
                exact = array.astype(np.float64)
                missed[name] = missed.get(name, 0.0) + float(np.square(new[name] - exact).sum())
                whole[name] = whole.get(name, 0.0) + float(np.square(exact).sum())
    tiny = float(np.finfo(np.float64).tiny)
    return {name: float(np.sqrt(missed[name] / max(whole[name], tiny))) for name in missed}
