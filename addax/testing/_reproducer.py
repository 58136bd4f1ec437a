"""A program that makes a comparison again: small models inline, large ones in files."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import AddaxError
from addax.ir.diff import structurally_equal
from addax.ir.model import save
from addax.ir.parser import parse_text
from addax.ir.text import to_text

_SHORT = 3000  # characters of a model that is printed
_FEW = 64  # elements of inputs that are printed


def program(
    a: ir.Model, b: ir.Model, feeds: Mapping[str, np.ndarray] | None, options: Mapping[str, Any]
) -> str:
    """The program. What is too large to print is written to a new folder that it names."""
    folder: list[Path] = []
    made = [_model(name, model, folder) for name, model in (("a", a), ("b", b))]
    given = "None" if feeds is None else _feeds(feeds, folder)
    passed = ", ".join(f"{key}={value!s}" for key, value in options.items())
    return (
        "import numpy as np\n"
        "from addax.frontend import to_ir\n"
        "from addax.ir.equivalence import compare\n"
        "from addax.ir.parser import parse_text\n"
        "from addax.ir.rule import Exact\n\n"
        f"{made[0]}{made[1]}"
        f"print(compare(a, b, feeds={given}, {passed}))\n"
    )


def _model(name: str, model: ir.Model, folder: list[Path]) -> str:
    text = to_text(model, names="kept")
    if len(text) <= _SHORT and "'''" not in text and "\\" not in text and _reads_back(text, model):
        return f"{name} = parse_text('''{text}''')\n"
    path = _folder(folder) / f"{name}.onnx"
    save(model, path)
    return f"{name} = to_ir({str(path)!r})\n"


def _reads_back(text: str, model: ir.Model) -> bool:
    """Whether the text says everything; large weights are only digests in it."""
    try:
        return structurally_equal(parse_text(text), model)
    except AddaxError:
        return False


def _feeds(feeds: Mapping[str, np.ndarray], folder: list[Path]) -> str:
    plain = all(x.dtype.kind in "biuf" and np.isfinite(x).all() for x in feeds.values())
    if plain and sum(x.size for x in feeds.values()) <= _FEW:
        arrays = (
            f"{name!r}: np.array({x.tolist()}, {x.dtype.name!r}).reshape({list(x.shape)})"
            for name, x in feeds.items()
        )
        return f"[{{{', '.join(arrays)}}}]"
    path = _folder(folder) / "inputs.npz"
    np.savez(path, **dict(feeds))  # type: ignore[arg-type]  # keys are names
    return f"[dict(np.load({str(path)!r}))]"


def _folder(folder: list[Path]) -> Path:
    if not folder:
        folder.append(Path(tempfile.mkdtemp(prefix="addax-equivalent-")))
    return folder[0]
