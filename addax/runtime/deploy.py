"""A model for another machine: beside the ONNX file a folder with all that makes it fast there.

model.onnx                     runs anywhere, as for any target
model.android-arm64/
    README.md                  how to build and register the library
    CMakeLists.txt, *.c, *.h   the library that gives kernels to ONNX Runtime
    neondot.o, neon.o          machine code of the kernels, for each instruction set
    model.ort                  the model for minimal builds of ONNX Runtime
    model.required_operators.config
"""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from addax.backends.ort import form_of, paths_of
from addax.backends.ort.project import project, readme
from addax.backends.target import Target
from addax.backends.to_ort import to_ort
from addax.errors import BuildError
from addax.ir.model import save
from addax.runtime.beside import folder_beside, folder_filled
from addax.runtime.kernels import code_paths, dialect_nodes, host_kernels
from addax.runtime.objects import machine_code

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """The kernels that a model will find on a machine of a target."""

    target: Target

    def code_path(self, node: ir.Node) -> str | None:
        """The best instruction set that has a kernel for a node; None if it needs its body."""
        form = form_of(node)
        return next((path.isa for path in paths_of(self.target) if path.form == form), None)

    def has(self, node: ir.Node) -> bool:
        """Whether there is a kernel for a node."""
        return self.code_path(node) is not None


def planned(model: ir.Model, target: Target) -> tuple[str, ...]:
    """A line for people that says which nodes of the dialect will have a kernel on the target."""
    if not dialect_nodes(model):
        return (f"kernels for {target.name}: none are needed, the model has standard ops alone",)
    return (f"kernels for {target.name}, planned: {code_paths(model, Planned(target))}",)


def save_project(
    model: ir.Model,
    target: Target,
    path: str | os.PathLike[str],
    *,
    external_data: bool | None = None,
) -> None:
    """Write a model and, beside it, the folder of its target if it has nodes that need kernels.

    A folder that is there is kept; the files that are written anew are replaced one by one.

    Args:
        model: An optimized model; its ops of the dialect get bodies.
        target: Where it shall run, one of `addax.backends.ort.project.SYSTEMS`.
        path: The ONNX file.
        external_data: Weights in a file beside it; None means where the format demands it.

    Raises:
        BuildError: If the machine code cannot be made; then nothing is written.
        ModelFileError: If something cannot be written.
    """
    kernels = Planned(target)
    made = to_ort(model, has_kernel=kernels.has)
    if not any(kernels.has(node) for node in dialect_nodes(model)):
        save(made, path, external_data=external_data)
        return
    objects = machine_code(target)
    save(made, path, external_data=external_data)
    with folder_filled(folder_beside(path, target.name), target.name) as folder:
        _write(folder, objects)
        _write(folder, {name: file.encode() for name, file in project(target).items()})
        small = f"{Path(path).stem}.ort" if _convert(made, folder, path, target) else ""
        _write(folder, {"README.md": readme(target, small).encode()})


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _convert(model: ir.Model, folder: Path, path: str | os.PathLike[str], target: Target) -> bool:
    """Write the model in ORT format; False, and a line in the log, where that cannot be done.

    The runtime keeps a node of the dialect only if a library claims it, so this machine's own
    library does: what is written names operators, not machine code.
    """
    name = Path(path).stem
    try:
        library = host_kernels().path
    except BuildError as error:
        logger.warning("no model in ORT format, since this machine has no kernels: %s", error)
        return False
    with tempfile.TemporaryDirectory(prefix=".addax-", dir=folder.parent) as text:
        source = Path(text) / f"{name}.onnx"
        save(model, source)
        failure = _run_converter(source, folder, target, library)
    if failure:
        logger.warning("no model in ORT format, since ONNX Runtime cannot write it: %s", failure)
        return False
    config = folder / f"{name}.required_operators.config"
    lines = config.read_text("utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("#")), "utf-8")
    return True


def _run_converter(source: Path, folder: Path, target: Target, library: Path) -> str:
    """ONNX Runtime's own tool, as a process: it changes how the one it runs in writes logs.

    Returns:
        Why it failed; "" if it did not.
    """
    platform = "arm" if target.name.endswith("arm64") else "amd64"
    command = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort"]
    command += ["--optimization_style", "Fixed", "--target_platform", platform]
    command += ["--output_dir", os.fspath(folder.resolve())]
    command += ["--custom_op_library", os.fspath(library)]
    # Our own interpreter on a file that was just written; no shell reads the command.
    done = subprocess.run(  # noqa: S603
        [*command, os.fspath(source.resolve())],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    told = done.stderr.strip().splitlines() or ["it said nothing"]
    return told[-1] if done.returncode else ""
