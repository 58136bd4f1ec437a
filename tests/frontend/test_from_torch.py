"""Modules of torch in, a graph with names, places and weights of its own out."""

import json
import logging
import re
import warnings

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everyone does

from addax.errors import ExportError, InputError, OptionError
from addax.frontend import _exporter
from addax.frontend._exported import _parse
from addax.frontend.from_torch import from_torch
from addax.ir.model import scopes
from addax.ir.origin import origin
from addax.ir.verify import verify

HERE = "test_from_torch.py"
_EXPORTER_LOG = "torch.onnx._internal.exporter._registration"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return x + self.drop(self.fc2(F.gelu(self.fc1(self.norm(x)))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head, self.tied = nn.Linear(8, 4), nn.Linear(8, 4)
        self.tied.weight = self.head.weight
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x, scale=None):
        for block in self.blocks:
            x = block(x)
        pooled = x.mean(1)
        logits = self.head(pooled) if scale is None else self.head(pooled) * scale
        return {"logits": logits, "aux": (self.tied(pooled), pooled)}


def run(model, *inputs):
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return dict(zip([v.name for v in session.get_outputs()], session.run(None, feeds),
                    strict=True))  # fmt: skip


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = Net().train()
    net.blocks[1].eval()
    return net


@pytest.fixture(scope="module")
def said():
    return []


@pytest.fixture(scope="module")
def model(net, said):
    """Exported in training mode, on one sample, for any number of them."""
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    torch_log = logging.getLogger(_EXPORTER_LOG)
    torch_log.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            model = from_torch(net, torch.randn(1, 5, 8), dynamic_shapes={0: "batch"})
        said += [str(warning.message) for warning in warned]
    finally:
        logging.getLogger().removeHandler(handler)
        torch_log.removeHandler(handler)
    return model


def test_numbers_and_shapes(net, model):
    verify(model)
    x = torch.randn(3, 5, 8)
    modes = [module.training for module in net.modules()]
    with torch.no_grad():
        expected = net.eval()(x)
    for module, mode in zip(net.modules(), modes, strict=True):
        module.training = mode
    actual = run(model, x)
    assert ["logits", "aux_0", "aux_1"] == list(actual)
    for one, other in zip((expected["logits"], *expected["aux"]), actual.values(), strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=0, atol=2e-6)
    assert ["batch", 5, 8] == [getattr(d, "value", d) for d in model.graph.inputs[0].shape]
    assert ["batch", 4] == [getattr(d, "value", d) for d in model.graph.outputs[0].shape]
    assert 20 == model.opset_imports[""]


def test_gelu_and_layer_norm_stay_one_node(model):
    operators = [node.op_type for node in model.graph]
    assert (2, 2) == (operators.count("Gelu"), operators.count("LayerNormalization"))
    assert "Erf" not in operators


def test_the_module_is_left_as_it_was(net, model):
    modes = {name: module.training for name, module in net.named_modules() if "." in name}
    assert {True} == {mode for name, mode in modes.items() if name.startswith("blocks.0")}
    assert {False} == {mode for name, mode in modes.items() if name.startswith("blocks.1")}
    assert net.training
    assert net.head.weight is net.tied.weight
    assert net.head.weight.requires_grad


def test_every_node_knows_its_place(model):
    places = {str(origin(node)) for node in model.graph if node.op_type != "Constant"}
    assert f"blocks.0.norm layer_norm at {HERE}:{line_of('self.norm(x)')}" in places
    assert f"blocks.1.fc2 linear at {HERE}:{line_of('self.norm(x)')}" in places
    assert f"blocks.1 gelu at {HERE}:{line_of('self.norm(x)')}" in places
    assert f"(top level) mean at {HERE}:{line_of('x.mean(1)')}" in places
    assert f"head linear at {HERE}:{line_of('if scale is None')}" in places


def line_of(text):
    with open(__file__, encoding="utf-8") as file:
        return next(k for k, line in enumerate(file, 1) if text in line)


def test_nothing_of_the_exporters_notes_is_left(model):
    assert not model.metadata_props
    for scope in scopes(model):
        assert not scope.metadata_props
        values = [*scope.inputs, *scope.initializers.values()]
        for node in scope:
            assert {"addax.origin"} >= node.metadata_props.keys()
            assert all("/" not in text for text in json.loads(node.metadata_props["addax.origin"]))
            values += node.outputs
        assert not [value for value in values if value.metadata_props]


def test_weights_are_copies_and_need_no_torch(net, model):
    weight = model.graph.initializers["blocks.0.fc1.weight"].const_value
    before = weight.numpy().copy()
    with torch.no_grad():
        net.blocks[0].fc1.weight += 1
    np.testing.assert_array_equal(before, weight.numpy())
    with torch.no_grad():
        net.blocks[0].fc1.weight -= 1
    for scope in scopes(model):
        for value in scope.initializers.values():
            assert type(value.const_value) is ir.Tensor
            assert isinstance(value.const_value.raw, np.ndarray)


def test_what_is_said(model, said):
    """Nothing but that the module was in training mode."""
    assert ["Net is in training mode; exported as in evaluation mode"] == said
    assert not logging.getLogger(_EXPORTER_LOG).filters


def test_names_modes_and_options_of_a_second_export():
    """Keyword arguments, names of inputs, opset 23, an input and a value returned twice."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.RMSNorm(8)
            self.weight = nn.Parameter(torch.ones(8))

        def forward(self, x, *, batch, flag=True, missing=None):
            y = self.norm(x) + batch["bias"] if flag else x
            y = F.scaled_dot_product_attention(y, y, y)
            return [y, x, y, self.weight, missing]

    odd, x = Odd().eval(), torch.randn(1, 2, 3, 8)
    model = from_torch(odd, (x,), kwargs={"batch": {"bias": torch.ones(8)}}, opset=23)
    verify(model)
    assert ["x", "batch_bias"] == [value.name for value in model.graph.inputs]
    assert 1 == [node.op_type for node in model.graph].count("RMSNormalization")
    assert 1 == [node.op_type for node in model.graph].count("Attention")
    actual = run(model, x, torch.ones(8))
    assert ["output_0", "output_1", "output_2", "output_3"] == list(actual)
    with torch.no_grad():
        expected = odd(x, batch={"bias": torch.ones(8)})
    for one, other in zip(expected, actual.values(), strict=False):
        np.testing.assert_allclose(one.detach().numpy(), other, rtol=0, atol=2e-6)


def test_an_exported_program_is_read_and_left_alone(net):
    x = torch.randn(2, 5, 8)
    modes = [module.training for module in net.modules()]
    program = torch.export.export(net.eval(), (x,))
    with torch.no_grad():
        expected = net(x)["logits"]
    for module, mode in zip(net.modules(), modes, strict=True):
        module.training = mode
    before = str(program)
    model = from_torch(program)
    assert before == str(program)
    np.testing.assert_allclose(expected.numpy(), run(model, x)["logits"], rtol=0, atol=2e-6)
    assert origin(model.graph[0]).module == "blocks.0.norm"
    with pytest.raises(OptionError, match=r"pass dynamic_shapes to torch\.export"):
        from_torch(program, dynamic_shapes={0: "batch"})


# What is refused


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class Eigen(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).real


def test_a_module_that_is_not_one_graph():
    line = line_of("if x.sum() > 0")
    with pytest.raises(ExportError, match=re.escape(
        f"Sequential decides by the values of a tensor in 1 ({HERE}:{line}), so it is not one "
        "graph: use torch.where or torch.cond"
    )):  # fmt: skip
        from_torch(nn.Sequential(nn.Identity(), Branch()).eval(), torch.randn(2, 2))


def test_an_operator_without_a_translation():
    with pytest.raises(ExportError, match=r"Eigen uses aten\.linalg_eig, which has no translation "
                                          r"to ONNX \(node linalg_eig\)"):  # fmt: skip
        from_torch(Eigen().eval(), torch.randn(2, 2))


def test_inputs_that_the_module_does_not_take(net):
    with pytest.raises(InputError, match=r"Linear\.forward.* is exported by running it once: pass "
                                         "example_inputs"):  # fmt: skip
        from_torch(nn.Linear(4, 4))
    with pytest.raises(InputError, match=r"Linear\.forward.* does not take these example inputs: "
                                         "too many positional"):  # fmt: skip
        from_torch(nn.Linear(4, 4), (torch.ones(4), torch.ones(4)))
    with pytest.raises(InputError, match=r"'input' of Linear\.forward.* is a numpy.ndarray; "
                                         "expected a tensor"):  # fmt: skip
        from_torch(nn.Linear(4, 4), np.ones(4))
    with pytest.raises(InputError, match=r"example input 'x\[0\]' of Net\.forward.* is a "
                                         r"builtins\.object"):  # fmt: skip
        from_torch(net, ([object()],))


def test_inputs_on_which_the_module_fails(net):
    line = line_of("self.norm(x)")
    with pytest.raises(InputError, match=re.escape(
        "Net does not run on its example inputs {'x': float64[1, 5, 8]}: mixed dtype"
    )) as caught:  # fmt: skip
        from_torch(net, torch.randn(1, 5, 8, dtype=torch.float64))
    assert f"in blocks.0.norm ({HERE}:{line}); pass inputs that it takes" in str(caught.value)
    with pytest.raises(InputError, match=r"float32\[1, 5, 7\]"):
        from_torch(net, {"x": torch.randn(1, 5, 7)})


def test_trying_a_module_out_changes_nothing_of_it():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += torch.rand(1)
            raise ValueError("never satisfied")

    counting = Counting()
    state = torch.random.get_rng_state()
    with pytest.raises(InputError, match="never satisfied"):
        from_torch(counting, torch.ones(1))
    assert counting.training
    assert 0 == counting.calls
    assert torch.equal(state, torch.random.get_rng_state())


def test_results_that_a_graph_cannot_return():
    class Mixed(nn.Module):
        def forward(self, x):
            return {"x": x, "count": 3}

    with pytest.raises(ExportError, match=r"Mixed returns a int as output\['count'\]; a graph "
                                          "returns tensors only"):  # fmt: skip
        from_torch(Mixed(), torch.ones(1))


def test_dimensions_that_cannot_vary():
    with pytest.raises(OptionError, match=r"dynamic_shapes={'input': {1: 'width'}} does not fit "
                                          r"Linear: .*inferred a static shape of 4"):  # fmt: skip
        from_torch(nn.Linear(4, 4).eval(), torch.ones(2, 4), dynamic_shapes={1: "width"})
    for wrong in ({0: 3}, {0: "batch", "x": None}, {-1: "last"}):
        with pytest.raises(OptionError, match="expected axes and their names, such as"):
            from_torch(nn.Linear(4, 4), torch.ones(2, 4), dynamic_shapes=wrong)


@pytest.mark.parametrize("opset", [17, 99, "20"])
def test_operator_sets_that_are_not_written(opset):
    with pytest.raises(OptionError, match="cannot be exported; expected 18 to 25"):
        from_torch(nn.Linear(4, 4), torch.ones(4), opset=opset)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_torch_jit_has_made():
    traced = torch.jit.trace(nn.Linear(4, 4).eval(), torch.ones(4))
    with pytest.raises(ExportError, match=r"Linear was compiled by torch\.jit, which cannot be"):
        from_torch(traced, torch.ones(4))


def test_a_program_of_a_module_in_training():
    class Drops(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, training=True)

    program = torch.export.export(Drops(), (torch.ones(4),))
    with pytest.raises(ExportError, match=r"traced in training mode \(node 'dropout'\): call "
                                          r"\.eval\(\)"):  # fmt: skip
        from_torch(program)


def test_failures_of_other_kinds_are_passed_on(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no luck\nat all") from KeyError("deep")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError, match="Linear cannot be exported: KeyError: 'deep'"):
        from_torch(nn.Linear(4, 4).eval(), torch.ones(4))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
    with pytest.raises(ExportError, match=r"returned nothing: expected torch 2\.7"):
        from_torch(nn.Linear(4, 4).eval(), torch.ones(4))


def test_only_the_exporters_own_chatter_is_silenced():
    log = logging.getLogger(_EXPORTER_LOG)
    heard = []
    log.addFilter(lambda record: heard.append(record.getMessage()))
    with _exporter._quiet(), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", append=True)
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated, ", FutureWarning, 1)
        warnings.warn("something else", FutureWarning, 1)
        log.warning("torchvision is not installed. Skipping torchvision::nms")
        log.warning("something else")
    log.filters.clear()
    assert ["something else"] == [str(warning.message) for warning in warned]
    assert "something else" in heard


# Parts


def test_the_exporters_notation_of_places():
    assert ("blocks.0", "linear_3", "linear") == _parse(
        ": vit.ViT/blocks.0@2: vit.Block/linear_3: aten.linear.default"
    )
    assert ("", "mul", "<built-in function mul>") == _parse("mul: <built-in function mul>")
