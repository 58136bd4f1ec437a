"""Calibration data in parts: samples to choose by, samples that judge, and one that is timed."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import InputError
from addax.ir.query import shape
from addax.runtime.calibrate import Batches

_HELD_OUT = 4  # one sample in so many judges

Feeds = dict[str, np.ndarray]


def split(model: ir.Model, batches: Batches) -> tuple[Batches, Batches]:
    """Samples to fit and choose by, and held-out ones that judge: one in four.

    Single samples where the model takes batches of any size, whole batches where it does not.

    Raises:
        InputError: There is only one sample or batch, or those that judge are all among the others.
    """
    parts: tuple[list[Feeds], list[Feeds]] = ([], [])
    free = takes_any_batch(model)
    count = 0
    for feeds in batches.feeds():
        size = len(next(iter(feeds.values()))) if free else 1
        held = (count + np.arange(size)) % _HELD_OUT == _HELD_OUT - 1
        count += size
        for part, chosen in zip(parts, (~held, held), strict=True):
            if chosen.any():
                part.append({n: a[chosen] if free else a for n, a in feeds.items()})
    if not parts[1]:
        unit = "samples" if free else "batches (the model takes them of one size only)"
        raise InputError(
            f"expected at least {_HELD_OUT} {unit} of calibration data, of which one in {_HELD_OUT}"
            f" judges what was chosen by the others; got {count}"
        )
    fitting, judging = (Batches(model, part) for part in parts)
    known = set(fingerprints(fitting.feeds(), free))
    if all(print_ in known for print_ in fingerprints(judging.feeds(), free)):
        raise InputError(
            "expected calibration data of different samples: all those that were held out to judge "
            "are among those to choose by, so that nothing would be judged; give each sample once"
        )
    return fitting, judging


def takes_any_batch(model: ir.Model) -> bool:
    """Whether the first dimension of every input is known only at run time."""
    dims = [shape(value) for value in model.graph.inputs]
    return all(each and not isinstance(each[0], int) for each in dims)


def fingerprints(feeds: Iterator[Mapping[str, Any]], is_free: bool) -> Iterator[bytes]:
    """A digest of each sample; of each batch, where samples cannot be told apart."""
    for batch in feeds:
        arrays = [np.ascontiguousarray(array) for array in batch.values()]
        for place in range(len(arrays[0]) if is_free else 1):
            digest = hashlib.blake2b(digest_size=16)
            for array in arrays:
                part = array[place] if is_free else array
                digest.update(repr(part.shape).encode() + part.tobytes())
            yield digest.digest()


def first_sample(model: ir.Model, batches: Batches) -> Batches:
    """One batch of one sample: what is timed."""
    feeds = next(batches.feeds())
    free = takes_any_batch(model)
    return Batches(model, [{n: a[:1] if free else a for n, a in feeds.items()}])


def few_samples(model: ir.Model, batches: Batches, most: int) -> Batches:
    """The first samples, about so many."""
    free, taken, kept = takes_any_batch(model), 0, list[Feeds]()
    for feeds in batches.feeds():
        size = len(next(iter(feeds.values()))) if free else 1
        kept.append({n: a[: most - taken] if free else a for n, a in feeds.items()})
        taken += size
        if taken >= most:
            break
    return Batches(model, kept)
