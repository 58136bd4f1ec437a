"""What the library refuses, in words; and processors that it has no kernels for."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from addax.backends.to_ort import to_ort
from addax.errors import InputError, UnsupportedOpError
from addax.runtime.build import build
from addax.runtime.session import Session
from tests.backends.ort.libraries import (
    layer,
    library_sources,
    reference_library,
    weights,
)
from tests.ir.dialect.running import model_of

ROOT = Path(__file__).parents[3]


def model(form: str, changes: dict | None = None, columns=40, **attributes) -> ir.Model:
    """A layer of 70 x 40 with some inputs and attributes replaced."""
    op_type, inputs, given, _ = weights(form, 70, 40)
    made = {"x": (ir.DataType.FLOAT, ["B", columns])} | inputs | (changes or {})
    return model_of(op_type, made, **given | attributes)


U8, F32 = np.uint8, np.float32
REFUSED = [
    (
        model("codebook4", group=48),
        "addax:CodebookMatMul: expected group 32, 64, 96 or 128, got 48",
    ),
    (model("binary2", group=256), "addax:BinaryMatMul: expected group 32, 64, 96 or 128, got 256"),
    (model("codebook4", bits=3), "addax:CodebookMatMul: expected bits 2 or 4, got 3"),
    (
        model("codebook4", {"codes": np.zeros((2, 1, 5, 64, 4), U8)}),
        r"CodebookMatMul: expected codes of shape \[2, 1, 8, 64, 4\], got \[2, 1, 5, 64, 4\]",
    ),
    (
        model("codebook4", {"codes": np.zeros(7, U8)}),
        r"expected codes of shape \[2, 1, 8, 64, 4\], got \[7\]",
    ),
    (
        model("codebook4", {"multipliers": np.zeros((2, 64), U8)}),
        r"expected multipliers of shape \[2, 1, 64\], got \[2, 64\]",
    ),
    (
        model("binary3", {"multipliers": np.zeros((2, 1, 2, 64), U8)}),
        r"expected multipliers of shape \[2, 1, 3, 64\], got \[2, 1, 2, 64\]",
    ),
    (
        model("codebook2", {"table": np.zeros(16, np.int8)}),
        r"expected a table of 2\^bits entries, got 16",
    ),
    (
        model("codebook2", {"table": np.zeros(5, np.int8)}),
        r"expected table of shape \[16\], got \[5\]",
    ),
    (
        model("int8", {"scale": np.ones((70, 1), F32)}),
        r"expected scale of shape \[N\], got one of 2 dim",
    ),
    (
        model("int8", {"weights": np.zeros((1, 10, 64, 4), np.int8)}),
        r"Int8MatMul: expected weights of shape \[2, 10, 64, 4\], got \[1, 10, 64, 4\]",
    ),
    (
        model("int8", {"weights": np.zeros((2, 0, 64, 4), np.int8)}),
        "expected weights of at least one column",
    ),
    (
        model(
            "binary2",
            {
                "planes": np.zeros((2, 1, 5, 4, 2, 16, 4), U8),
                "multipliers": np.zeros((2, 1, 5, 64), U8),
            },
        ),
        "this library has no kernel for binary5 on this processor; load the model without it",
    ),
    (
        model("static", {"table": np.zeros(16, np.int8)}),
        r"StaticInt8MatMul: expected table of shape \[256\], got \[16\]",
    ),
    (
        model("static", zero=256),
        "StaticInt8MatMul: expected step above 0 and zero from 0 to 255, got 0.5 and 256",
    ),
    (model("static", step=-1.0), "expected step above 0 and zero from 0 to 255, got -1 and 9"),
    (
        model("static", {"weights": np.zeros((1, 10, 64, 4), np.int8)}),
        r"StaticInt8MatMul: expected weights of shape \[2, 10, 64, 4\], got \[1, 10, 64, 4\]",
    ),
    (
        model("int8", {"scale": (ir.DataType.FLOAT, [70])}),
        "expected weights that are initializers, but input 2 is computed at run time",
    ),
]


@pytest.mark.parametrize(("refused", "told"), REFUSED)
def test_weights_that_are_refused_when_the_model_is_loaded(refused, told):
    with pytest.raises(UnsupportedOpError, match=told):
        Session(to_ort(refused), library=reference_library())


@pytest.mark.parametrize(
    ("form", "columns", "told"),
    [
        (
            "codebook4",
            65,
            r"CodebookMatMul: expected X of shape \[..., K\] with K from 1 to 64, .*codes",
        ),
        (
            "int8",
            36,
            r"Int8MatMul: expected X of .* with K from 37 to 40, .*weights, got \[3, 36\]",
        ),
        ("int8", 41, r"with K from 37 to 40"),
        (
            "binary1",
            0,
            r"BinaryMatMul: expected X of .* with K from 1 to 64, .*planes, got \[3, 0\]",
        ),
    ],
)
def test_activations_that_do_not_fit(form, columns, told):
    session = Session(to_ort(model(form, columns="K")), library=reference_library())
    with pytest.raises(InputError, match=told):
        session.run({"x": np.zeros((3, columns), F32)})


def test_a_scalar_and_too_many_dimensions():
    made = model("int8", {"x": (ir.DataType.FLOAT, [])})
    made.graph.outputs[0].shape = None
    with pytest.raises(InputError, match=r"expected X of shape .* got \[\]"):
        Session(to_ort(made), library=reference_library()).run({"x": np.zeros((), F32)})
    many = model("int8", {"x": (ir.DataType.FLOAT, [1] * 16 + [40])})
    with pytest.raises(InputError, match="expected at most 16 dimensions, got 17"):
        Session(to_ort(many), library=reference_library()).run(
            {"x": np.zeros([1] * 16 + [40], F32)}
        )


def test_a_processor_without_the_instructions_runs_the_bodies():
    """No kernel can run here, so no operator is registered and the bodies are taken."""
    path = build("elsewhere", library_sources(isa="quantum"))
    made = layer("codebook4", 70, 40)
    x = np.random.default_rng(0).standard_normal((2, 40)).astype(F32)
    body, beside = (Session(to_ort(made), library=p).run({"x": x})["y"] for p in (None, path))
    np.testing.assert_array_equal(body, beside)


def test_ops_are_registered_one_by_one():
    """A library with kernels for one op leaves the others to their bodies."""
    path = build("some", library_sources(forms=("int8",)))
    for form, same in (("binary2", True), ("int8", False)):
        x = np.random.default_rng(0).standard_normal((5, 40)).astype(F32)
        made = layer(form, 70, 40)
        body, beside = (Session(to_ort(made), library=p).run({"x": x})["y"] for p in (None, path))
        assert same == np.array_equal(body, beside)


def in_a_process(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
    )


PROGRAM = """
import onnxruntime as ort
options = ort.SessionOptions()
try:
    options.register_custom_ops_library(LIBRARY)
    print("loaded")
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("isa", "told"),
    [
        ("scalar", "loaded"),
        ("", "loaded"),
        ("avx512", "ADDAX_ISA=avx512, but there are no kernels of that name; this library has"),
    ],
)
def test_the_environment_forces_an_instruction_set(isa, told):
    program = PROGRAM.replace("LIBRARY", repr(str(reference_library())))
    assert told in in_a_process(program, ADDAX_ISA=isa).stdout


def test_a_forced_instruction_set_that_the_processor_lacks():
    program = PROGRAM.replace("LIBRARY", repr(str(build("q", library_sources(isa="quantum")))))
    made = in_a_process(program, ADDAX_ISA="quantum")
    assert (
        "but this processor lacks that instruction set; this library has kernels for quantum"
        in (made.stdout)
    )


def test_a_forced_instruction_set_is_taken():
    """Two sets in one library: the first is preferred, the environment takes the second."""
    path = build("both", library_sources(forms=("int8",), isas=("scalar", "nomul")))
    code = f"import ctypes; f = ctypes.CDLL({str(path)!r}).addax_code_path\n"
    code += "f.restype = ctypes.c_char_p; print(f(b'int8'), f(b'binary1'))"
    assert "b'scalar' None\n" == in_a_process(code, ADDAX_ISA="").stdout
    assert "b'nomul' None\n" == in_a_process(code, ADDAX_ISA="nomul").stdout
