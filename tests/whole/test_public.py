"""The public names, and what `import addax` costs."""

import ast
import importlib
import json
import subprocess
import sys

import pytest

import addax
from tests.whole.repository import PACKAGE, ROOT, module_name, python_files, tree, where

HEAVY = ("torch", "tvm", "onnxruntime", "onnx", "onnx_ir", "numpy", "scipy", "hypothesis")


def with_all() -> list[str]:
    """Every module of the package that says what it exports."""
    return [
        module_name(path)
        for path in python_files(PACKAGE)
        if any(
            isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
            for node in tree(path).body
        )
    ]


def in_a_new_process(code: str) -> list:
    """What the last line of a program prints, read as JSON."""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT
    )
    return json.loads(run.stdout)


def loaded_by(statements: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after some statements."""
    listing = "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    return set(in_a_new_process(f"import sys, json\n{statements}\n{listing}"))


def test_import_loads_nothing_heavy():
    assert loaded_by("import addax").isdisjoint(HEAVY)


def test_compiling_loads_no_runtime():
    loaded = loaded_by(
        "import addax.passes._pipeline, addax.ir.evaluate, addax.ir.verify\n"
        "addax.passes._pipeline.Pipeline.exact()"
    )
    assert loaded.isdisjoint({"torch", "tvm", "onnxruntime"})


def test_public_names_load_on_first_use():
    for name in addax.__all__:
        assert getattr(addax, name) is not None
        assert name in dir(addax)


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(AttributeError, match=r"module 'addax' has no attribute 'optimise'; it has"):
        _ = addax.optimise


@pytest.mark.parametrize("name", with_all())
def test_all_is_sorted_and_true(name: str):
    module = importlib.import_module(name)
    names = list(module.__all__)
    assert names == sorted(set(names), key=lambda name: (_rank(name), name))
    assert [n for n in names if not hasattr(module, n)] == []


def _rank(name: str) -> int:
    """Constants before classes before functions, as ruff sorts."""
    return 0 if name.isupper() else 1 if name[0].isupper() else 2


def test_every_error_is_ours_and_pythons():
    from addax import errors

    for name in errors.__all__:
        cls = getattr(errors, name)
        assert issubclass(cls, errors.AddaxError)
        assert cls.__doc__
        others = [base for base in cls.__mro__ if base.__module__ == "builtins"]
        assert name == "AddaxError" or len(others) > 3  # beyond Exception, BaseException, object


def test_asserts_check_no_input():
    """`assert` vanishes under -O: what input can cause is an error with a message."""
    found = [
        where(path, node.lineno)
        for path in python_files(PACKAGE)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert)
    ]
    assert found == []
