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


@pytest.mark.parametrize(
    ("weight", "inputs"),
    [("-1, 2, 3, 4", None), ("1.01, 2, 3, 4", {"x": np.ones((3, 2), np.float32)})],
)
def test_a_wrong_weight_fails_with_a_program_that_runs(weight: str, inputs: dict | None) -> None:
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


class Doubled(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 2 * x + y


@pytest.mark.parametrize("form", ["module", "program", "graph", "bytes", "path", "array", "names"])
def test_each_form_of_a_model(form: str, tmp_path) -> None:
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    model, inputs = Doubled().eval(), (x, y)
    fast = addax.optimize(model, inputs)
    other: object = fast
    match form:
        case "program":
            other = torch.export.export(model, inputs)
        case "graph":
            other = torch.fx.symbolic_trace(model)
        case "bytes" | "path":
            fast.save(tmp_path / "fast.onnx")
            path = tmp_path / "fast.onnx"
            other = path if form == "path" else path.read_bytes()
        case "array":
            inputs = (x.numpy(), y.numpy())
        case "names":
            inputs = {"x": x, "y": y.numpy()}
    assert assert_equivalent(model, other, inputs=inputs).holds


def test_modules_are_compared_in_eval_mode_and_left_as_they_were() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4)).train()
    x = torch.randn(5, 4)
    before = model[1].running_mean.clone()
    assert assert_equivalent(model, model, inputs=x).holds
    assert model.training
    assert model[1].training
    assert torch.equal(before, model[1].running_mean)


def test_a_module_that_torch_runs_otherwise_than_its_graph() -> None:
    class Shifty(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if torch.compiler.is_exporting() else 1.01 * x

    x = torch.ones(3)
    with pytest.raises(AssertionError, match="torch itself computes something else than the exp"):
        assert_equivalent(Shifty(), Shifty(), inputs=x)


def test_order_matches_what_is_called_otherwise() -> None:
    a = linear("1, 2, 3, 4")
    b = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[N,2] w) => (float[N,2] x) '
        "<float[2,2] y = {1, 2, 3, 4}> { x = MatMul(w, y) }"
    )
    assert assert_equivalent(a, b, match="order").holds
    with pytest.raises(InputError, match="input"):
        assert_equivalent(a, b)
    two = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[2] p, float[2] q) => (float[2] y) '
        "{ y = Add(p, q) }"
    )
    with pytest.raises(InputError, match=r"match='order' needs as many inputs and outputs in both"):
        assert_equivalent(a, two, match="order")


def test_small_models_are_printed_whole() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_equivalent(linear("1, 2, 3, 4"), linear("1, 2, 3, 5"))
    assert ".onnx" not in str(caught.value)
    assert "a = parse_text('''" in str(caught.value)
