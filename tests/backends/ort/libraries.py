"""A library with the kernels of `kernels.c`, and models for it."""

import functools
from pathlib import Path

import numpy as np
import onnx_ir as ir

from addax.backends.ort import FORMS as ALL_FORMS
from addax.backends.ort import paths_of, sources
from addax.backends.target import InstructionSet, Target
from addax.runtime.build import build
from tests.ir.dialect import packing
from tests.ir.dialect.running import model_of

FORMS = ("codebook4", "codebook2", "binary1", "binary2", "binary3", "binary4", "int8")
MANY = 3


def library_sources(forms=tuple(ALL_FORMS), isa="scalar", isas=None) -> dict[str, str]:
    """The library's sources and the plain kernels, under the name of one or more sets."""
    names = isas or (isa,)
    few = dict.fromkeys(forms, MANY - 1)
    target = Target("test", sets=tuple(InstructionSet(name, "", "", few=few) for name in names))
    files = sources(path for path in paths_of(target) if path.form in forms)
    text = Path(__file__).with_name("kernels.c").read_text("utf-8")
    return files | {f"{name}.c": text.replace("_scalar", f"_{name}") for name in names}


@functools.cache
def reference_library() -> Path:
    """Built once, and kept in the cache of the test run."""
    return build("reference", library_sources())


def weights(
    form: str, rows: int, columns: int, seed: int = 0
) -> tuple[str, dict, dict, np.ndarray]:
    """Operator, inputs, attributes and the decoded weights float64[N, K] of a drawn layer.

    So small that sums of a thousand products with int8 are exact in float32, in any order.
    """
    rng = np.random.default_rng(seed)
    scale = rng.choice([0.5, 1, 2], rows).astype(np.float32)
    group = packing.grouping(columns)
    groups = -(-columns // group)
    of_column = np.arange(columns) // group
    if form == "int8":
        integers = rng.integers(-127, 128, (rows, columns)).astype(np.int8)
        inputs = {"weights": packing.pack_int8(integers, rng), "scale": scale}
        return "Int8MatMul", inputs, {}, integers * scale[:, None].astype(np.float64)
    if form == "static":
        integers = rng.integers(-127, 128, (rows, columns)).astype(np.int8)
        table = rng.integers(-128, 128, 256).astype(np.int8)
        inputs = {"weights": packing.pack_int8(integers, rng), "table": table, "scale": scale}
        decoded = integers * scale[:, None].astype(np.float64)
        return "StaticInt8MatMul", inputs, {"step": 0.5, "zero": 9}, decoded
    if form.startswith("binary"):
        planes = int(form[-1])
        signs = rng.integers(0, 2, (rows, columns, planes)).astype(bool)
        times = rng.integers(0, 4, (rows, groups, planes), dtype=np.uint8)
        integers = ((2.0 * signs - 1) * times[:, of_column]).sum(-1)
        inputs = {
            "planes": packing.pack_planes(signs, group, rng),
            "multipliers": packing.pack_multipliers(times, rng),
            "scale": scale,
        }
        return "BinaryMatMul", inputs, {"group": group}, integers * scale[:, None]
    bits = int(form[-1])
    codes = rng.integers(0, 2**bits, (rows, columns), dtype=np.uint8)
    table = rng.integers(-9, 10, 2**bits).astype(np.int8)
    times = rng.integers(0, 4, (rows, groups), dtype=np.uint8)
    integers = table[codes].astype(np.float64) * times[:, of_column]
    inputs = {
        "codes": packing.pack_codes(codes, bits, group, rng),
        "table": table,
        "multipliers": packing.pack_multipliers(times, rng),
        "scale": scale,
    }
    attributes = {"bits": bits, "group": group}
    return "CodebookMatMul", inputs, attributes, integers * scale[:, None]


def layer(form: str, rows: int, columns: int, leading=("B",), seed: int = 0) -> ir.Model:
    """A model of one layer of N = rows outputs and K = columns inputs."""
    op_type, inputs, attributes, _ = weights(form, rows, columns, seed)
    x = (ir.DataType.FLOAT, [*leading, columns])
    return model_of(op_type, {"x": x, **inputs}, **attributes)


def representable(form: str, leading: tuple[int, ...], columns: int, many: bool, seed: int = 0):
    """Activations that the kernels round to themselves: integers, of which the largest in each
    group is 127, or where four at a time are summed, whose largest sum of magnitudes is 127."""
    rng = np.random.default_rng(seed)
    by_sums = form.startswith("binary") and not many
    most = 31 if by_sums else 127
    x = rng.integers(-most, most + 1, (*leading, columns)).astype(np.float32)
    group = columns if form == "int8" else packing.grouping(columns)
    for start in range(0, columns, group):
        first = min(4 if by_sums else 1, columns - start)
        x[..., start : start + first] = 31
        x[..., start + first - 1] = 127 - 31 * (first - 1)
    return x
