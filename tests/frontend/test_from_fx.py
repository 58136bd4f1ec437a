"""Graph modules in; their nodes' names and places out."""

import logging

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everyone does

from addax.errors import ExportError, InputError
from addax.frontend import to_ir
from addax.frontend.from_fx import from_fx
from addax.ir.origin import origin
from addax.ir.verify import verify


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.layers(x)).mean(0) * 2


@pytest.fixture(scope="module")
def traced():
    torch.manual_seed(0)
    return torch.fx.symbolic_trace(Net().eval())


@pytest.fixture(scope="module")
def model(traced):
    return from_fx(traced, torch.randn(3, 4), dynamic_shapes={0: "batch"})


def test_numbers(traced, model):
    verify(model)
    x = torch.randn(5, 4)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    with torch.no_grad():
        expected = traced(x).numpy()
    (actual,) = session.run(["output"], {"x": x.numpy()})
    np.testing.assert_allclose(expected, actual, rtol=0, atol=2e-6)


def test_names_of_nodes_and_modules_survive(model):
    places = {}
    for node in model.graph:
        if node.op_type != "Constant":
            where = origin(node)
            places.setdefault((where.module, where.op), set()).add(node.op_type)
    assert "Relu" in places[("layers.2", "layers_2")]
    assert "Gemm" in places[("head", "head")]
    assert "ReduceMean" in places[("", "mean")]
    assert "Mul" in places[("", "mul")]


def test_the_graph_module_is_left_as_it_was(traced, model):
    assert not any("addax" in node.meta for node in traced.graph.nodes)
    assert traced.graph.owning_module is traced
    assert ["x", "layers_0", "layers_1", "layers_2", "head", "mean", "mul", "output"] == [
        node.name for node in traced.graph.nodes
    ]


def test_folders_that_fx_makes_are_not_in_training(traced, caplog):
    assert any(module.training for module in traced.modules())
    with caplog.at_level(logging.WARNING), pytest.raises(InputError):
        from_fx(traced, torch.randn(3, 5))
    assert "training mode" not in caplog.text


def test_training_that_is_frozen_in_the_graph_is_refused():
    class Drops(nn.Module):
        def forward(self, x):
            return F.dropout(F.dropout(x, 0.5, training=False, inplace=True), 0.1, training=True)

    with pytest.raises(ExportError, match=r"traced in training mode \(node 'dropout_1'\)"):
        from_fx(torch.fx.symbolic_trace(Drops()), torch.ones(4))


def test_it_is_chosen_by_type(traced, monkeypatch):
    chosen = []
    monkeypatch.setattr("addax.frontend.from_fx.from_fx", lambda *a, **k: chosen.append((a, k)))
    to_ir(traced, 1, dynamic_shapes=2)
    assert [((traced, 1), {"kwargs": None, "dynamic_shapes": 2})] == chosen
