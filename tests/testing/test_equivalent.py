"""The assertion holds for equal models, fails for planted faults, and its reproducer runs."""

import subprocess
import sys

import numpy as np
import onnx.parser
import pytest
import torch

import addax
from addax.errors import InputError
from addax.testing import assert_equivalent


def linear(weight: str, y: str = "MatMul(x, w)") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[N,2] x) => (float[N,2] y) '
        f"<float[2,2] w = {{{weight}}}> {{ y = {y} }}"
    )


def test_a_module_and_its_optimized_form() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)
    ).eval()
    x = torch.randn(5, 4)
    assert assert_equivalent(model, addax.optimize(model, x), inputs=x).holds


@pytest.mark.parametrize("weight", ["-1, 2, 3, 4", "1.01, 2, 3, 4"])
def test_a_wrong_weight_fails_with_a_program_that_runs(weight: str) -> None:
    x = np.ones((3, 2), np.float32)
    for inputs in (None, {"x": x}):
        with pytest.raises(AssertionError, match="different: ") as caught:
            assert_equivalent(linear("1, 2, 3, 4"), linear(weight), inputs=inputs)
        program = str(caught.value).partition("To see it again:")[2]
        run = subprocess.run(
            [sys.executable, "-c", program.strip()], capture_output=True, check=True, text=True
        )
        assert run.stdout.strip() == str(caught.value).partition("\n")[0]


def test_nothing_but_nan_is_not_equal() -> None:
    nan = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[N,2] x) => (float[N,2] y) '
        "{ z = Sub(x, x) y = Div(z, z) }"
    )
    with pytest.raises(AssertionError, match="undecided: "):
        assert_equivalent(nan, nan)


def test_inputs_of_another_count() -> None:
    with pytest.raises(InputError, match=r"expected 1 inputs \['x'\], got 2"):
        assert_equivalent(linear("1, 2, 3, 4"), linear("1, 2, 3, 4"), inputs=(1, 2))
