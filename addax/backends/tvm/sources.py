"""Kernels as the source text of a GPU language, and how to launch them."""

from collections.abc import Mapping
from typing import Any

import tvm
from tvm import tirx

from addax.backends.gpu.launch import Launch
from addax.backends.kernels.grids import grid_functions, launches

_DESCRIPTIONS: Mapping[str, Mapping[str, Any]] = {
    "cuda": {"kind": "cuda", "arch": "sm_70"},
    "metal": {"kind": "metal"},
    "opencl": {"kind": "opencl"},
    "webgpu": {"kind": "webgpu"},
}


def kernel_sources(language: str) -> tuple[str, dict[str, Launch]]:
    """The text with every kernel that a grid runs, and how to launch each, by the kernel's name.

    Args:
        language: "cuda", "metal", "opencl" or "webgpu".
    """
    wanted = launches()
    return source(language, grid_functions(wanted)), wanted


def source(language: str, functions: Mapping[str, Any]) -> str:
    """PrimFuncs of a grid as text; no device and no compiler of the language is needed."""
    target = tvm.target.Target(dict(_DESCRIPTIONS[language]))
    # Without a host, TVM leaves a device function as it is: names and order of its parameters.
    module = tirx.transform.BindTarget(target)(tvm.IRModule(dict(functions)))
    pipeline, _, _ = tirx.get_tir_pipeline("s_tir")
    module = tirx.transform.LowerIntrin()(pipeline(module))
    built = tvm.get_global_func(f"target.build.{language}")(module, target)
    return str(built.inspect_source())
