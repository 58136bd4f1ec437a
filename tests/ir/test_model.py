"""Scopes in order; clones that share only data."""

import hypothesis
import numpy as np
import onnx
import onnx_ir as ir

from addax.ir.diff import structural_diff
from addax.ir.model import clone, roots, scopes
from addax.ir.parser import parse_text
from addax.ir.text import to_text
from addax.testing.strategies.graphs import models

NESTED = """
<ir_version: 10, opset_import: ["": 20, "local": 1]>
g (float[2] x, bool c) => (float[2] y) <float[2] w> {
    a = Add(x, w)
    y = If(c) <
        then_branch = first () => (float[2] t) <float[2] inner> {
            b = Mul(a, inner)
            t = If(c) <
                then_branch = second () => (float[2] u) { u = Neg(b) },
                else_branch = third () => (float[2] v) { v = Abs(a) }
            >
        },
        else_branch = fourth () => (float[2] z) { z = local.Twice(a) }
    >
}
<domain: "local", opset_import: ["": 20]>
Twice (p) => (q) {
    k = Constant <value = float[1] {2}> ()
    q = Mul(p, k)
}
"""


def values_of(model):
    for scope in scopes(model):
        yield from scope.inputs
        yield from tuple(getattr(scope, "initializers", {}).values())
        for node in scope:
            yield from node.outputs


def test_every_scope_comes_once_an_outer_one_before_what_it_holds():
    model = parse_text(NESTED)
    names = [scope.name for scope in scopes(model)]
    assert names == ["g", "first", "second", "third", "fourth", "Twice"]
    assert [root.name for root in roots(model)] == ["g", "Twice"]


def test_a_scope_may_be_changed_while_it_is_held():
    model = parse_text(NESTED)
    for scope in scopes(model):
        for node in [node for node in scope if node.op_type == "If"][:1]:
            if scope is model.graph:
                node.attributes["else_branch"] = node.attributes["then_branch"]
    assert len(list(scopes(model))) > 1


@hypothesis.given(models())
def test_a_clone_is_equal_and_holds_nothing_of_the_original(model):
    copied = clone(model)
    assert structural_diff(model, copied) is None
    assert to_text(model, names="own") == to_text(copied, names="own")
    for one, other in (
        (values_of(model), values_of(copied)),
        (scopes(model), scopes(copied)),
        ((n for s in scopes(model) for n in s), (n for s in scopes(copied) for n in s)),
    ):
        assert not set(map(id, one)) & set(map(id, other))


@hypothesis.given(models())
def test_what_happens_to_a_clone_does_not_happen_to_the_original(model):
    before = to_text(model, names="own")
    tensors = [value.const_value for value in values_of(model) if value.const_value is not None]
    names = [tensor.name for tensor in tensors]
    for count, value in enumerate(values_of(clone(model))):
        value.name = f"renamed{count}"
        value.dtype = ir.DataType.COMPLEX128
        value.metadata_props["seen"] = "1"
        if value.shape is not None and not value.shape.frozen:
            for axis in range(len(value.shape)):
                value.shape[axis] = 77
    assert before == to_text(model, names="own")
    assert names == [tensor.name for tensor in tensors]


def test_weights_are_shared_and_tied_ones_stay_tied():
    model = parse_text(NESTED)
    weight = model.graph.initializers["w"]
    weight.const_value = ir.tensor(np.arange(2, dtype=np.float32), name="w")
    tied = ir.Value(name="tied", const_value=weight.const_value)
    model.graph.initializers["tied"] = tied
    copied = clone(model).graph.initializers
    assert copied["w"].const_value.raw is weight.const_value.raw
    assert copied["w"].const_value is copied["tied"].const_value


def test_a_message_behind_a_tensor_is_not_renamed():
    proto = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    value = ir.Value(name="w", const_value=ir.serde.TensorProtoTensor(proto))
    model = ir.Model(ir.Graph([], [value], nodes=[], initializers=[value]), ir_version=10)
    copied = clone(model).graph.initializers["w"]
    copied.name = "v"
    assert (proto.name, copied.const_value.name) == ("w", "v")
    assert copied.const_value.numpy().tolist() == [1.0, 2.0]


def test_order_does_not_matter():
    x = ir.Value(name="x")
    late = ir.Node("", "Neg", [x], name="late")
    early = ir.Node("", "Abs", [late.outputs[0]], name="early")
    graph = ir.Graph([x], [early.outputs[0]], nodes=[early, late], opset_imports={"": 20})
    copied = clone(ir.Model(graph, ir_version=10)).graph
    assert [node.name for node in copied] == ["early", "late"]
    assert copied[0].inputs[0] is copied[1].outputs[0]


def test_metadata_and_notes_of_analyses_come_along():
    model = parse_text(NESTED)
    node = model.graph[0]
    model.metadata_props["key"] = "model"
    for thing in (model, model.graph, node, node.outputs[0], *model.functions.values()):
        thing.meta["fresh"], thing.meta["stale"] = 1, 2
        thing.meta.invalidate("stale")
        thing.metadata_props["key"] = "value"
    node.doc_string = "why"
    copied = clone(model)
    there = copied.graph[0]
    for thing in (copied, copied.graph, there, there.outputs[0], *copied.functions.values()):
        assert dict(thing.meta) == {"fresh": 1, "stale": 2}
        assert (thing.meta.is_valid("fresh"), thing.meta.is_valid("stale")) == (True, False)
        assert thing.metadata_props["key"] == "value"
        thing.metadata_props["key"] = "changed"
    assert there.doc_string == "why"
    assert model.graph.metadata_props["key"] == "value"


def test_types_of_every_kind_are_copied():
    types = [
        ir.TensorType(ir.DataType.FLOAT, denotation="IMAGE"),
        ir.SparseTensorType(ir.DataType.FLOAT),
        ir.SequenceType(ir.TensorType(ir.DataType.FLOAT)),
        ir.OptionalType(ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))),
        None,
    ]
    inputs = [ir.Value(name=f"x{k}", type=type_) for k, type_ in enumerate(types)]
    copied = clone(ir.Model(ir.Graph(inputs, [], nodes=[]), ir_version=10)).graph.inputs
    assert types == [value.type for value in copied]
    assert copied[0].type.denotation == "IMAGE"
    for value in copied[:4]:
        value.dtype = ir.DataType.DOUBLE
    assert {ir.DataType.FLOAT, None} == {value.dtype for value in inputs}


def test_placement_on_devices_speaks_of_the_copies():
    devices = ir.ModelConfiguration("two", 2)
    x = ir.Value(name="x")
    node = ir.Node("", "Neg", [x], name="n")
    spec = ir.ShardingSpec(value=x, device=(0, 1))
    node.device_configurations = (
        ir.NodeDeviceConfiguration(
            configuration=devices, sharding_specs=(spec, ir.ShardingSpec(value=None, device=(0,)))
        ),
    )
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20})
    copied = clone(ir.Model(graph, ir_version=11, device_configurations=(devices,))).graph
    first, second = copied[0].device_configurations[0].sharding_specs
    assert first.value is copied.inputs[0]
    assert second.value is None
