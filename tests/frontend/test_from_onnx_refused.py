"""Graphs that break the rules of ONNX, and operators that nobody knows: refused in words."""

import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from addax.errors import InvalidGraphError, ModelFileError, UnsupportedOpError
from addax.frontend.from_onnx import from_onnx
from tests.frontend.test_from_onnx import TEXT, changed, proto


def no_imports(m):
    del m.opset_import[:]


def two_imports(m):
    m.opset_import.add(domain="ai.onnx", version=21)


def unnamed_input(m):
    m.graph.input[0].name = ""


def unnamed_initializer(m):
    m.graph.initializer[0].name = ""


def same_input_twice(m):
    m.graph.input.append(m.graph.input[0])


def undefined_value(m):
    m.graph.node[0].input[1] = "nowhere"


def undefined_output(m):
    m.graph.output[0].name = "nowhere"


def two_producers(m):
    m.graph.node[1].output[0] = "a"
    m.graph.node[0].name = "first"
    m.graph.node[1].name = "second"


def cycle(m):
    m.graph.node[0].input[0] = "y"


def short_weight(m):
    del m.graph.initializer[0].float_data[5:]


def empty_weight(m):
    del m.graph.initializer[0].float_data[:]


def huge_weight(m):
    m.graph.initializer[0].CopyFrom(TensorProto(dims=[1 << 40, 1 << 40], data_type=1, name="w"))


def short_raw_weight(m):
    raw = TensorProto(dims=[3, 4], data_type=1, name="w", raw_data=bytes(44))
    m.graph.initializer[0].CopyFrom(raw)


def negative_weight(m):
    m.graph.initializer[0].dims[0] = -3


def typeless_weight(m):
    m.graph.node[1].attribute.add(name="t", type=4).t.CopyFrom(TensorProto(data_type=99))


def short_strings(m):
    m.graph.initializer.add(name="s", dims=[2], data_type=8, string_data=[b"one"])


def typeless_attribute(m):
    m.graph.node[1].attribute.add(name="alpha")


def wrong_attribute(m):
    m.graph.node[1].op_type = "LeakyRelu"
    m.graph.node[1].attribute.append(helper.make_attribute("alpha", "high"))


def bytes_attribute(m):
    m.graph.node[1].attribute.add(name="mode", type=3, s=b"\xff\xfe")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (no_imports, "the model imports no operator set, so its operators have no meaning"),
        (two_imports, "operator set 'ai.onnx' is imported at versions 20 and 21: keep one"),
        (lambda m: m.ClearField("ir_version"), "the model has no IR version"),
        (unnamed_input, "graph input number 0 has no name"),
        (unnamed_initializer, "initializer number 0 has no name"),
        (same_input_twice, "graph input 'x' is declared twice: rename one of them"),
        (undefined_value, "MatMul '' reads 'nowhere', which no node makes"),
        (undefined_output, "graph output 'nowhere' is not made by any node"),
        (two_producers, "Output 'a' is redeclared in the current graph scope"),
        (cycle, "the graph is not acyclic: Relu '' -> MatMul '' -> Relu ''"),
        (short_weight, "tensor 'w' of shape [3, 4] and type FLOAT is not what its data is (5"),
        (empty_weight, "tensor 'w' of shape [3, 4] needs 12 elements, and has 0"),
        (huge_weight, "needs 1208925819614629174706176 elements, and has 0"),
        (short_raw_weight, "tensor 'w' of shape [3, 4] needs 48 bytes of FLOAT, and has 44"),
        (negative_weight, "tensor 'w' has a negative dimension: [-3, 4]"),
        (typeless_weight, "has element type 99, which does not exist"),
        (short_strings, "tensor 's' of shape [2] needs 2 strings, and has 1"),
        (typeless_attribute, "attribute 'alpha' of Relu '' has no type"),
        (wrong_attribute, "attribute 'alpha' of LeakyRelu '' is of type STRING; expected FLOAT"),
        (bytes_attribute, "attribute 'mode' of Relu '' is not UTF-8: b'\\xff\\xfe'"),
    ],
)
def test_graphs_that_break_the_rules(edit, message):
    with pytest.raises(InvalidGraphError) as caught:
        from_onnx(changed(edit))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (b"MatMul", b"MatM\xfel", "a node or a value"),
        (b"\x12\x01y", b"\x12\x01\xfe", "a node or a value"),
        (b"own.op", b"own.\xfep", "an operator set"),
        (b"\x0a\x01x\x12", b"\x0a\x01\xfe\x12", "an input or output"),
    ],
)
def test_names_that_are_not_text(old, new, what):
    message = changed(lambda m: m.opset_import.add(domain="own.op", version=1))
    data = message.SerializeToString()
    assert old in data
    with pytest.raises(InvalidGraphError, match=f"the name of {what}.* is not UTF-8"):
        from_onnx(data.replace(old, new))


def test_a_standard_domain_that_is_not_imported():
    text = TEXT.replace('"": 20', '"own": 1')
    with pytest.raises(InvalidGraphError, match=r"MatMul '' is in operator set 'ai\.onnx', which "
                                                "the model does not import"):  # fmt: skip
        from_onnx(proto(text))


def test_inputs_of_a_graph_in_memory_may_be_declared_twice_as_well():
    one, two = ir.Value(name="x"), ir.Value(name="x")
    model = ir.Model(ir.Graph([one, two], [one], nodes=[], opset_imports={"": 20}), ir_version=10)
    with pytest.raises(InvalidGraphError, match="graph input 'x' is declared twice"):
        from_onnx(model)


def test_a_cycle_through_a_body():
    text = """<ir_version: 10, opset_import: ["": 20]> g (bool c) => (float y) {
        a = Exp(y)
        y = If(c) <then_branch = t () => (float u) { u = Neg(a) },
                   else_branch = e () => (float v) { v = Abs(a) }>
    }"""
    with pytest.raises(InvalidGraphError, match=r"the graph is not acyclic: .*Neg '' -> If ''"):
        from_onnx(proto(text))


# What is refused: the unknown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Relu(a)", "Rleu(a)"),
         "Rleu '': operator set 'ai.onnx' version 20 has no 'Rleu'; the nearest name is 'Relu'"),
        (("Relu(a)", "Swish(a)"), "has no 'Swish'; it exists since version 24"),
        (("Relu(a)", "Upsample(a, a)"), "has no 'Upsample'; it was withdrawn in version 10"),
        (("Relu(a)", "Qqqqqqqq(a)"), "has no 'Qqqqqqqq'; nothing has a similar name"),
        (("Relu(a)", "ai.onnx.ml.Scalar(a)"), "'ai.onnx.ml' version 3 has no 'Scalar'; the nearest "
                                              "name is 'Scaler'"),
        (('"": 20', '"": 999'), "imports version 999 of operator set 'ai.onnx', and onnx"),
        (("ir_version: 10", "ir_version: 99"), "the model has IR version 99, and onnx"),
    ],
)  # fmt: skip
def test_operators_and_versions_that_nobody_knows(change, message):
    text = TEXT.replace(*change).replace('"": 20]', '"": 20, "ai.onnx.ml": 3]')
    with pytest.raises(UnsupportedOpError) as caught:
        from_onnx(proto(text))
    assert message in str(caught.value)


def test_an_operator_that_is_a_function_of_the_model_is_known():
    function = """<domain: "", opset_import: ["": 20]> Rleu (p) => (q) { q = Relu(p) }"""
    assert (
        "Rleu" == from_onnx(proto(TEXT.replace("Relu(a)", "Rleu(a)") + function)).graph[1].op_type
    )


def test_what_the_graph_cannot_hold_for_a_reason_of_its_own(monkeypatch):
    def fail(model):
        raise ValueError("two values in one place")

    monkeypatch.setattr(ir.serde, "deserialize_model", fail)
    text = "the model cannot be understood: two values in one place"
    with pytest.raises(InvalidGraphError, match=text):
        from_onnx(proto())


NO_SPARSE = r"the model holds something that addax has no meaning for: Sparse tensors .*'dice'"


def test_bytes_that_are_no_model():
    with pytest.raises(ModelFileError, match="is not a whole ONNX model: it is "):
        from_onnx(b"\xff\xff\xff\xff not a protobuf")


def test_kinds_of_values_that_the_graph_cannot_hold():
    dense = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    where = helper.make_tensor("", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(dense, where, [4])
    with pytest.raises(UnsupportedOpError, match="initializer 's' is sparse: store it as a dense"):
        from_onnx(changed(lambda m: m.graph.sparse_initializer.append(sparse)))
    node = helper.make_node("Constant", [], ["k"], name="dice", sparse_value=sparse)
    with pytest.raises(UnsupportedOpError, match=NO_SPARSE):
        from_onnx(changed(lambda m: m.graph.node.append(node)))
