"""A model for GPUs: beside the ONNX file a folder with kernels, weights and how to launch them.

model.onnx             runs anywhere, as for any target
model.cuda/
    kernels.cu         source of the kernels that the model's layers need
    kernels.json       how each is launched, and which launches compute which node
    weights.safetensors    what the kernels read, packed
"""

import importlib.metadata
import json
import os
from typing import Any

import onnx_ir as ir
from safetensors.numpy import save as tensors_of

from addax.backends.gpu.languages import LANGUAGES
from addax.backends.gpu.launch import Launch
from addax.backends.gpu.layers import Layer, has_kernel, layers_of
from addax.backends.to_ort import to_ort
from addax.ir.model import save
from addax.runtime.beside import folder_beside, folder_filled
from addax.runtime.kernels import dialect_nodes

DESCRIPTION, WEIGHTS = "kernels.json", "weights.safetensors"


def planned(model: ir.Model, language: str) -> tuple[str, ...]:
    """A line for people that says how many nodes of the dialect have kernels in a language."""
    nodes = dialect_nodes(model)
    if not nodes:
        return ()
    served = sum(map(has_kernel, nodes))
    rest = len(nodes) - served
    return (
        f"kernels in {language}: {served} nodes"
        + (f"; bodies in standard operators: {rest}" if rest else "")
        + "; the host program is yours",
    )


def save_program(
    model: ir.Model,
    language: str,
    path: str | os.PathLike[str],
    *,
    external_data: bool | None = None,
) -> None:
    """Write a model and, beside it, the folder of its kernels, where it has layers for them.

    Args:
        model: An optimized model; its ops of the dialect get bodies.
        language: One of `addax.backends.gpu.languages.LANGUAGES`.
        path: The ONNX file.
        external_data: Weights in a file beside it; None means where the format demands it.

    Raises:
        MissingPackageError: TVM, which writes the source, is missing.
        ModelFileError: If something cannot be written.
    """
    layers, tensors = layers_of(model)
    files = dict[str, bytes]()
    if layers:
        files = _sources(layers, language)
        files[WEIGHTS] = tensors_of(tensors)
    save(to_ort(model), path, external_data=external_data)
    if not files:
        return
    with folder_filled(folder_beside(path, language), language) as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)


def _sources(layers: list[Layer], language: str) -> dict[str, bytes]:
    from addax.backends.to_tvm import require_tvm

    require_tvm()
    from addax.backends.tvm.sources import kernel_sources

    needed = set().union(*(layer.kernels for layer in layers))
    texts, launches = kernel_sources(language, needed)
    described = _described(layers, launches, language)
    files = {name: text.encode() for name, text in texts.items()}
    return files | {DESCRIPTION: json.dumps(described, indent=1).encode()}


def _described(layers: list[Layer], launches: dict[str, Launch], language: str) -> dict[str, Any]:
    kernels = [
        launch.as_json() | {"file": LANGUAGES[language].file_of(launch.name)}
        for launch in launches.values()
    ]
    nodes = [layer.as_json() for layer in layers]
    return {
        "made_by": f"addax {importlib.metadata.version('addax')}",
        "language": language,
        "numbers": LANGUAGES[language].numbers,
        "weights": WEIGHTS,
        "kernels": kernels,
        "nodes": nodes,
    }
