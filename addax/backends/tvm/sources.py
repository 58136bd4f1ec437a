"""Kernels as the source text of a GPU language, and how to launch them."""

from collections.abc import Collection, Mapping
from typing import Any

import tvm
from tvm import tirx

from addax.backends.gpu.languages import LANGUAGES
from addax.backends.gpu.launch import Launch
from addax.backends.kernels.grids import grid_functions, launches

_DESCRIPTIONS: Mapping[str, Mapping[str, Any]] = {
    "cuda": {"kind": "cuda", "arch": "sm_70"},
    "metal": {"kind": "metal"},
    "opencl": {"kind": "opencl"},
    "webgpu": {"kind": "webgpu"},
}
_FIRST_CUDA_KERNEL = 'extern "C" __global__'


def kernel_sources(
    language: str, kernels: Collection[str] | None = None
) -> tuple[dict[str, str], dict[str, Launch]]:
    """The text of files by their names, and how to launch each kernel by the kernel's name.

    Args:
        language: "cuda", "metal", "opencl" or "webgpu".
        kernels: Which ones, without `addax_`; by default all that a grid runs.
    """
    wanted = {
        name: launch for name, launch in launches().items() if kernels is None or name in kernels
    }
    files: dict[str, str] = {}
    for name, function in grid_functions(language, wanted).items():
        file = LANGUAGES[language].file_of(name)
        files[file] = files.get(file, "") + source(language, {name: function})
    return files, wanted


def source(language: str, functions: Mapping[str, Any]) -> str:
    """PrimFuncs of a grid as text; no device and no compiler of the language is needed."""
    target = tvm.target.Target(dict(_DESCRIPTIONS[language]))
    # Without a host, TVM leaves a device function as it is: names and order of its parameters.
    module = tirx.transform.BindTarget(target)(tvm.IRModule(dict(functions)))
    pipeline, _, _ = tirx.get_tir_pipeline("s_tir")
    module = tirx.transform.LowerIntrin()(pipeline(module))
    built = tvm.get_global_func(f"target.build.{language}")(module, target)
    text = str(built.inspect_source())
    # TVM puts includes before CUDA kernels that ours, on words and floats alone, do not need.
    return text[text.index(_FIRST_CUDA_KERNEL) :] if language == "cuda" else text
