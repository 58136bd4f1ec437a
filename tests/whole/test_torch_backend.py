"""`torch.compile(model, backend="addax")`: the same results, and a line in the log where not."""

import logging
from importlib.metadata import entry_points

import pytest
import torch
from torch import nn

from addax.demo import load_images, load_model
from addax.errors import OptionError
from addax.torch_backend import compile_graph

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Net(nn.Module):
    """A linear layer and a norm; results of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.register_buffer("shift", torch.ones(4))

    def forward(self, x, scale=None):
        y = self.norm(self.linear(x)) + self.shift
        if scale is not None:
            y = y * scale
        return {"y": y.reshape(len(x) * 2, 2), "sizes": (len(x), len(x) * 3), "k": None, "x": x}


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)


@pytest.fixture
def log(caplog) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "addax.torch_backend")
    return caplog


def optimized(log) -> list[str]:
    return [line for line in log.messages if " became " in line]


def refused(log) -> list[str]:
    return [line for line in log.messages if "runs in torch as it is" in line]


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return float((a - b).abs().max() / b.abs().max()) < 1e-5


def test_torch_finds_the_backend_by_its_name():
    (found,) = (e for e in entry_points(group="torch_dynamo_backends") if e.name == "addax")
    assert compile_graph is found.load()
    assert "addax" in torch._dynamo.list_backends()


def test_the_digits_transformer_computes_the_same_for_any_batch(log):
    model, images = load_model(), torch.from_numpy(load_images("test")[0])
    fast = torch.compile(model, backend="addax", dynamic=True)
    with torch.inference_mode():
        for count in (2, 3, 5):
            assert near(fast(images[:count]), model(images[:count]))
    assert 1 == len(optimized(log))
    assert [] == refused(log)


@pytest.mark.parametrize("dynamic", [None, True])
def test_results_keep_their_form(dynamic, log):
    model = Net().eval()
    fast = torch.compile(model, backend="addax", dynamic=dynamic)
    with torch.no_grad():
        for count in (2, 3, 6):
            x = torch.randn(count, 4)
            expected, actual = model(x), fast(x)
            assert expected.keys() == actual.keys()
            assert near(actual["y"], expected["y"])
            assert ((count, count * 3), None) == (actual["sizes"], actual["k"])
            assert actual["x"] is x
        assert near(fast(x, 0.5)["y"], model(x, 0.5)["y"])
        assert near(fast(x, scale=0.7)["y"], model(x, 0.7)["y"])
    assert [] == refused(log)


def test_weights_that_change_are_noticed(log):
    model, x = Net().eval(), torch.randn(3, 4)
    fast = torch.compile(model, backend="addax")
    with torch.no_grad():
        fast(x)
        model.linear.weight.mul_(2)
        assert near(fast(x)["y"], model(x)["y"])
        model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})
        assert near(fast(x)["y"], model(x)["y"])
    assert 2 == log.messages.count("weights have changed: the graph is optimized again")


def test_a_graph_may_break(log):
    model = nn.Linear(4, 4)

    def step(x):
        y = model(x)
        if y.sum() > 0:  # torch cuts here, and runs what fits
            return y * 2
        return torch.relu(y) - 1

    fast = torch.compile(step, backend="addax")
    with torch.inference_mode():
        for sign in (1, -1):
            x = torch.full((2, 4), 10.0 * sign)
            assert torch.allclose(fast(x), step(x), rtol=1e-5)
    assert 3 == len(optimized(log))


def test_training_is_left_to_torch(log):
    model, x = Net().eval(), torch.randn(3, 4)
    fast = torch.compile(model, backend="addax")
    fast(x)["y"].sum().backward()
    assert model.linear.weight.grad is not None
    assert ["gradients are asked for"] == [line.split(": ")[1][:23] for line in refused(log)]


def fills(x):
    x.fill_(2)


def writes(x):
    x.add_(1)
    return x * 2


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (writes, "it writes to x0, in place"),
        (fills, "the graph computes no tensor"),
        (
            lambda x: (x * 2, x.long().sum().item()),
            "a number among its results depends",
        ),
        (lambda x: torch.nn.functional.dropout(x, 0.5), "it draws random numbers (aten.dropout"),
        (torch.special.bessel_j0, "uses prims.bessel_j0, which has no translation"),
    ],
)
def test_what_no_graph_of_onnx_can_do_runs_in_torch(function, text, log):
    x = torch.ones(3)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = function(x.clone())
        torch.manual_seed(1)
        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            actual = torch.compile(function, backend="addax")(x.clone())
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert text in "".join(refused(log)), log.messages


def test_autocast_is_left_to_torch(log):
    fast = torch.compile(nn.Linear(3, 3), backend="addax")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.bfloat16 == fast(torch.ones(2, 3)).dtype
    assert "torch.autocast changes number formats" in refused(log)[0]


def test_a_number_that_is_another_each_time_ends_in_torch(log, monkeypatch):
    monkeypatch.setattr("addax.torch_backend._MOST", 2)
    fast = torch.compile(lambda x, n: x * n, backend="addax", dynamic=True)
    with torch.no_grad():
        for number in range(2, 6):
            assert float(number) + 0.5 == float(fast(torch.ones(3), number + 0.5)[0])
    assert 2 == len(optimized(log))
    assert "it was made 2 times" in refused(log)[0]


def test_options_are_handed_on_and_reports_told():
    reports = []
    options = {"pipeline": "cleanup", "target": "portable", "report": reports.append}
    fast = torch.compile(nn.Linear(3, 3), backend="addax", options=options)
    with torch.no_grad():
        fast(torch.ones(2, 3))
    assert ["cleanup"] == [report.pipeline for report in reports]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"mode": "max-autotune"}, "the backend 'addax' has no modes; leave mode out"),
        ({"options": {"alow": ()}}, "the backend 'addax' has no option alow"),
        ({"options": {"target": "cuda"}}, "expected one of the targets host, portable, tvm, got"),
        ({"options": {"report": 1}}, "expected a function as report, got 1"),
        ({"options": {"pipeline": "clenup"}}, "there is no pass 'clenup'"),
    ],
)
def test_options_are_validated_before_anything_is_compiled(given, text):
    with pytest.raises(OptionError, match=text):
        compile_graph(torch.fx.symbolic_trace(nn.ReLU()), [], **given)
