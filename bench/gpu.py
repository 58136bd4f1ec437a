"""Layers of few bits on a GPU, beside its float16 matmul.

    python -m bench.gpu [--quick] [--seed N] [--language cuda|opencl] [--forms NAME ...]

Drawn weights, memory on the device, time of the processor that waits for it; a call is 32 layers
one after another. The rival is `torch.matmul` in float16 on the same GPU; where torch has no GPU,
in float32 on the processor, which only says that the bench runs. Without a driver nothing is timed.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from addax.errors import BuildError, MissingPackageError
from addax.ir.dialect import DOMAIN, operators
from addax.runtime._saved_layers import SavedLayers
from addax.runtime.beside import folder_beside
from addax.runtime.cuda import CudaLayers
from addax.runtime.gpu import save_program
from addax.runtime.opencl import OpenClLayers
from bench.measure import arguments, emit_json, interleave, timing_table

FORMS = ("codebook4", "codebook2", "binary2", "int8")
SIZES = ((1024, 1024), (4096, 4096), (4096, 11008))  # outputs, columns
ROWS = (1, 16, 256)
GROUP, TIMES = 128, 32


def layer(form: str, outputs: int, columns: int, rng: np.random.Generator) -> ir.Model:
    """One layer; any bytes are codes, so that nothing has to be packed."""
    tiles, groups = -(-outputs // 64), -(-columns // GROUP)
    scale = np.full(outputs, 1e-4, np.float32)

    def drawn(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, dtype=np.uint8)

    if form == "int8":
        name, tensors = "Int8MatMul", [drawn(tiles, -(-columns // 4), 64, 4).view(np.int8), scale]
        attributes: dict[str, Any] = {}
    elif form.startswith("binary"):
        planes = int(form[-1])
        codes = drawn(tiles, groups, planes, 4, GROUP // 32, 16, 4)
        name, tensors = "BinaryMatMul", [codes, drawn(tiles, groups, planes, 64) // 5, scale]
        attributes = {"group": GROUP}
    else:
        bits = int(form[-1])
        codes = drawn(tiles, groups, GROUP * bits // 32, 64, 4)
        table = rng.integers(-127, 128, 2**bits).astype(np.int8)
        name = "CodebookMatMul"
        tensors = [codes, table, drawn(tiles, groups, 64), scale]
        attributes = {"bits": bits, "group": GROUP}
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["B", columns]))
    weights = [
        ir.Value(
            name=f"w{place}",
            const_value=ir.tensor(array, name=f"w{place}"),
            type=ir.TensorType(ir.tensor(array).dtype),
            shape=ir.Shape(array.shape),
        )
        for place, array in enumerate(tensors)
    ]
    node = ir.node(name, [x, *weights], attributes, domain=DOMAIN)
    node.outputs[0].name = "y"
    operators()[name].shape(node)
    opsets = {"": 20, DOMAIN: 1}
    graph = ir.Graph(
        [x], node.outputs, nodes=[node], initializers=weights, name="g", opset_imports=opsets
    )
    return ir.Model(graph, ir_version=10)


def on_device(language: str, model: ir.Model) -> SavedLayers:
    """The layer in the device's memory."""
    with tempfile.TemporaryDirectory() as text:
        path = Path(text) / "model.onnx"
        save_program(model, language, path)
        folder = folder_beside(path, language)
        return CudaLayers(folder) if language == "cuda" else OpenClLayers(folder)


def rival(outputs: int, columns: int, rows: int) -> tuple[str, Callable[[], object]]:
    """The matmul that everybody has, 32 times."""
    found = torch.cuda.is_available()
    device, dtype = ("cuda", torch.float16) if found else ("cpu", torch.float32)
    x = torch.ones(rows, columns, device=device, dtype=dtype)
    w = torch.ones(columns, outputs, device=device, dtype=dtype)

    def run() -> None:
        for _ in range(TIMES):
            x @ w
        if found:
            torch.cuda.synchronize()

    return ("float16 on the GPU" if found else "float32 on the processor"), run


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments("gpu", "layers of few bits on a GPU")
    parser.add_argument("--language", choices=["cuda", "opencl"], default="cuda")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    options = parser.parse_args(argv)
    rng = np.random.default_rng(options.seed)
    sizes, counts = (SIZES[:1], ROWS[:2]) if options.quick else (SIZES, ROWS)
    figures: dict[str, Any] = {"language": options.language, "times": {}}
    for outputs, columns in sizes:
        try:
            layers = {
                form: on_device(options.language, layer(form, outputs, columns, rng))
                for form in options.forms
            }
        except (MissingPackageError, BuildError) as error:
            print(f"nothing to time: {error}")
            figures["skipped"] = str(error)
            break
        for rows in counts:
            x = rng.standard_normal((rows, columns)).astype(np.float32)
            name, baseline = rival(outputs, columns, rows)
            contenders = {name: baseline}
            for form, made in layers.items():
                contenders[f"{form} few"] = made.repeat("y", x, TIMES, many=False)
                contenders[f"{form} many"] = made.repeat("y", x, TIMES, many=True)
            timings = interleave(contenders, rounds=3 if options.quick else 20)
            title = f"{rows} x {columns} by {columns} x {outputs}, {TIMES} times"
            timing_table(title, timings, name)
            figures["times"][title] = timings
    emit_json("gpu", figures, seed=options.seed)


if __name__ == "__main__":
    main()
