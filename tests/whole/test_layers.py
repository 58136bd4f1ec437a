"""Imports point downwards only, private modules stay in their folder, and the layers stay lean."""

import pytest

from tests.whole.repository import PACKAGE, imports, module_name, python_files, where

# A layer may import itself and those listed; whatever is not a layer may import anything.
LAYERS = {
    "errors": set(),
    "ir": {"errors"},
    "frontend": {"errors", "ir"},
    "passes": {"errors", "ir"},
    "backends": {"errors", "ir"},
    "planner": {"errors", "ir", "passes"},
    "runtime": {"errors", "ir", "backends"},
}
HEAVY = {"torch", "onnxruntime", "tvm"}


def layer(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_imports_only_what_is_below_it(name: str):
    wrong = [
        f"{where(path, line)} imports {imported}"
        for path in python_files(PACKAGE)
        if layer(module_name(path)) == name
        for imported, line in imports(path)
        if imported.startswith("addax.") and layer(imported) not in {name, *LAYERS[name]}
    ]
    assert wrong == []


def test_every_folder_is_a_layer_or_stands_above_all():
    above = {"cli", "debugging", "demo", "drawing", "testing"}
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and not p.name.startswith("_")}
    assert folders - set(LAYERS) - above == set()


def test_private_modules_are_private_to_their_folder():
    """`addax.ir._scopes` may be imported in `addax/ir`, below it, and by what stands above all."""
    wrong = []
    for path in python_files(PACKAGE):
        if layer(module_name(path)) not in LAYERS:
            continue
        package = module_name(path.parent / "__init__.py")
        for imported, line in imports(path):
            parts = imported.split(".")
            private = next((i for i, p in enumerate(parts) if _is_private(p)), None)
            if parts[0] == "addax" and private is not None:
                owner = ".".join(parts[:private])
                if not f"{package}.".startswith(f"{owner}."):
                    wrong.append(f"{where(path, line)} imports {imported}")
    assert sorted(set(wrong)) == []


def _is_private(part: str) -> bool:
    return part.startswith("_") and not part.startswith("__")


@pytest.mark.parametrize("name", ["errors", "ir", "passes", "planner"])
def test_what_a_program_is_needs_no_runtime(name: str):
    wrong = [
        f"{where(path, line)} imports {imported}"
        for path in python_files(PACKAGE)
        if layer(module_name(path)) == name
        for imported, line in imports(path)
        if imported.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_a_planted_import_is_seen(tmp_path):
    path = tmp_path / "planted.py"
    path.write_text("def f():\n    from addax.passes import cleanup\n", "utf-8")
    assert ("addax.passes", 2) in list(imports(path))
