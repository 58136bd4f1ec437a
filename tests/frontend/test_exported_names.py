"""Names of an exported graph: one value, one name."""

import onnx_ir as ir
import torch
from torch import nn

import addax
from addax.frontend._exported import _fresh, _name_outputs
from addax.frontend.from_torch import from_torch


def test_names_of_outputs_give_way_to_inputs_and_displace_inner_values():
    x = ir.Value(name="x")
    first = ir.Node("", "Neg", [x], name="n")
    second = ir.Node("", "Abs", [first.outputs[0]], name="a")
    first.outputs[0].name, second.outputs[0].name = "logits", "other"
    graph = ir.Graph([x], [second.outputs[0], x, second.outputs[0]], nodes=[first, second],
                     opset_imports={"": 20})  # fmt: skip
    _name_outputs(ir.Model(graph, ir_version=10), ["logits", "x", "again"])
    assert ["logits", "x_1", "again"] == [value.name for value in graph.outputs]
    assert "logits_1" == first.outputs[0].name
    assert ["Neg", "Abs", "Identity", "Identity"] == [node.op_type for node in graph]
    assert "x_2" == _fresh("x", {"x", "x_1"})


def test_a_parameter_may_be_called_like_a_function():
    """torch's exporter gives the weight and the result of torch.sign one name."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.sign = nn.Parameter(torch.tensor([-2.0, 0.0, 3.0]))

        def forward(self, x):
            return x * torch.sign(self.sign)

    model = from_torch(Named(), torch.ones(2, 3))
    names = [v.name for node in model.graph for v in node.outputs]
    names += [*model.graph.initializers, *(v.name for v in model.graph.inputs)]
    assert sorted(names) == sorted(set(names))
    x = torch.randn(2, 3)
    made = addax.optimize(Named(), x, progress=False)
    assert torch.equal(made(x), Named()(x))
