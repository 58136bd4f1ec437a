"""PrimFuncs to machine code: an object file with plain C symbols, its assembly, or GPU source."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from addax.backends.kernels.catalogue import functions
from addax.backends.target import InstructionSet, Target
from addax.backends.targets import vocabulary


def compiled(functions: Mapping[str, Any], target: Mapping[str, Any]) -> Any:
    """A module of TVM that holds the functions as machine code for `target`.

    The same lowering as for any kernel of TVM; functions with a C calling convention keep their
    plain symbols and need no runtime.
    """
    made = tvm.target.Target(dict(target))
    module = tvm.IRModule(dict(functions))
    module = tirx.transform.BindTarget(made.with_host(made))(module)
    pipeline, _, _ = tirx.get_tir_pipeline("s_tir")
    module = tirx.transform.LowerIntrin()(pipeline(module))
    return tvm.get_global_func("target.build." + made.kind.name)(module, made)


def object_file(functions: Mapping[str, Any], target: Mapping[str, Any]) -> bytes:
    """A relocatable object with the functions' symbols."""
    with tempfile.TemporaryDirectory(prefix="addax-object-") as folder:
        path = Path(folder) / "kernels.o"
        compiled(functions, target).write_to_file(os.fspath(path), "o")
        return path.read_bytes()


def assembly(functions: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    """The functions in the target's assembly language, to be read."""
    return str(compiled(functions, target).inspect_source("asm"))


def kernel_objects(target: Target) -> dict[str, bytes]:
    """An object file with every kernel, for each instruction set of a target by name."""
    return {
        isa.name: object_file(functions(isa.name, vocabulary(isa)), llvm(target.triple, isa))
        for isa in target.sets
    }


def llvm(triple: str, isa: InstructionSet) -> dict[str, Any]:
    """How TVM is told of an instruction set on a system."""
    described: dict[str, Any] = {"kind": "llvm", "mtriple": triple, "mattr": list(isa.attributes)}
    return described | ({"mcpu": isa.cpu} if isa.cpu else {})
