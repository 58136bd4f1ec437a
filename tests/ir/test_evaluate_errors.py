"""Every error of the judge by its text: what was expected, what came, where, what to do."""

import re

import numpy as np
import onnx_ir as ir
import pytest

from addax.errors import (
    EvaluationError,
    InputError,
    InvalidGraphError,
    OptionError,
    UnsupportedOpError,
)
from addax.ir.evaluate import Judge, evaluate

X = np.ones((2, 3), np.float32)
ADD = "g (float[N,3] x, float[N,3] z) => (float[N,3] y) { y = Add(x, z) }"


def model(text: str, opsets: str = '"": 20') -> ir.Model:
    return ir.from_onnx_text(f"<ir_version: 10, opset_import: [{opsets}]>{text}")


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"x": X}, "input 'z' (float[N,3]) is missing from the feeds; got 'x'"),
        ({}, "input 'x' (float[N,3]) is missing from the feeds; got nothing"),
        (
            {"x": X, "z": X, "w": X},
            "no input is named 'w'; the model's inputs are: 'x' (float[N,3]), 'z' (float[N,3])",
        ),
        (
            {"x": X, "z": X.astype(np.int64)},
            "input 'z' (float[N,3]) got int64[2,3]; convert it with .astype('float32')",
        ),
        (
            {"x": X, "z": [[1.0, 2.0, 3.0]]},
            "input 'z' (float[N,3]) takes a NumPy array, got list; convert it with numpy.asarray",
        ),
        ({"x": X, "z": X[0]}, "input 'z' (float[N,3]) got float32[3]: it must have rank 2"),
        (
            {"x": X, "z": X[:, :2]},
            "input 'z' (float[N,3]) got float32[2,2]: axis 1 must be 3",
        ),
        (
            {"x": X, "z": X[:1]},
            "input 'z' (float[N,3]) got float32[1,3]: axis 0 is 'N', which is 2 in input 'x'",
        ),
    ],
)
def test_feeds_that_do_not_fit(feeds, message):
    with pytest.raises(InputError, match=re.escape(message)):
        evaluate(model(ADD), feeds)


def test_numbers_are_no_strings():
    m = model("g (string[N] s) => (string[N] y) { y = Identity(s) }")
    with pytest.raises(InputError, match=r"input 's' \(string\[N\]\) takes strings, got float32"):
        evaluate(m, {"s": X[0]})


def test_nothing_is_computed_on_feeds_that_do_not_fit():
    seen = []
    with pytest.raises(InputError):
        evaluate(model(ADD), {"x": X}, watch=lambda *_: seen.append(1))
    assert seen == []


@pytest.mark.parametrize("precision", [np.float16, int, "half"])
def test_precision(precision):
    message = "precision must be None, numpy.float32 or numpy.float64, got "
    with pytest.raises(OptionError, match=re.escape(message)):
        Judge(model(ADD), precision=precision)


@pytest.mark.parametrize(
    ("opsets", "body", "message"),
    [
        (
            '"": 20, "mine": 3',
            "y = mine.Strange(x)",
            "mine::Strange node that makes 'y': no NumPy meaning is known for op 'Strange' of "
            "domain 'mine' at opset 3; give the model a function of that name",
        ),
        (
            '"": 20',
            "[noise] y = RandomNormalLike(x)",
            "RandomNormalLike node 'noise' is random: its result is not a function of the inputs",
        ),
        ('"": 6', "y = Dropout(x)", "Dropout in training mode with ratio 0.5 is random"),
        (
            '"": 99',
            "y = Relu(x)",
            "Relu node that makes 'y': opset 99 of domain '' is newer than",
        ),
        (
            '"other": 1',
            "y = Relu(x)",
            "Relu node that makes 'y': the standard domain '' is not among the imported opsets "
            "({'other': 1})",
        ),
        (
            '"": 11, "com.microsoft": 1',
            "y = com.microsoft.Gelu<sharp = 1>(x)",
            "com.microsoft::Gelu node that makes 'y': attribute 'sharp' has no meaning here; "
            "known for this op: none",
        ),
        (
            '"": 20',
            "c = Constant<value_floats: floats = @none>()\n y = Add(x, c)",
            "Constant node that makes 'c': expected a dense value, got no attribute",
        ),
        (
            '"": 20',
            "y = LinearRegressor<wrong = 1>(x)",
            "no NumPy meaning is known for op 'LinearRegressor' of domain ''",
        ),
    ],
)
def test_ops_without_a_meaning(opsets, body, message):
    with pytest.raises(UnsupportedOpError, match=re.escape(message)):
        evaluate(model(f"g (float[N,3] x) => (float[N,3] y) {{ {body} }}", opsets), {"x": X})


def test_what_the_reference_does_not_take():
    m = model('g (float[N,3] x) => (int64[N,3] y) { y = TfIdfVectorizer<mode = "TF">(x) }')
    message = "TfIdfVectorizer node that makes 'y': onnx's reference does not take it at opset 20: "
    with pytest.raises(UnsupportedOpError, match=re.escape(message)):
        evaluate(m, {"x": X})


def test_a_subgraph_that_the_reference_runs_is_not_promoted():
    m = model(
        """g (float[1,1,2,2] q) => (float[1,1,2,2] y) {
            y = ai.onnx.preview.FlexAttention<score_mod = s (float[B,H,L,S] a)
                => (float[B,H,L,S] b) { b = Neg(a) }>(q, q, q)
        }""",
        '"": 26, "ai.onnx.preview": 1',
    )
    q = np.ones((1, 1, 2, 2), np.float32)
    assert np.array_equal(q, evaluate(m, {"q": q})["y"])
    with pytest.raises(UnsupportedOpError, match="in the model's own types alone"):
        evaluate(m, {"q": q}, precision=np.float64)


def test_training_dropout_that_only_its_input_tells():
    m = model("g (float[N,3] x, float r, bool t) => (float[N,3] y) { [drop] y = Dropout(x, r, t) }")
    feeds = {"x": X, "r": np.array(0.25, np.float32), "t": np.array(False)}
    assert np.array_equal(X, evaluate(m, feeds)["y"])
    with pytest.raises(UnsupportedOpError, match=r"ratio 0\.25 is random: its result") as caught:
        evaluate(m, {**feeds, "t": np.array(True)})
    assert caught.value.__notes__ == ["inside Dropout node 'drop'"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("a = Neg(b)\n b = Neg(x)\n y = Add(a, b)", "value 'b' is read by Neg node that makes 'a'"),
        ("a = Neg(x)", "value 'y' is read by an output before anything makes it"),
        (
            "y = MaxPool(x)",
            "MaxPool node that makes 'y': required attribute 'kernel_shape' is missing",
        ),
        (
            "c = Constant<value_int = 1>()\n y = If<then_branch = t () => (float[N,3] r) "
            "{ r = Neg(x) }>(c)",
            "If node that makes 'y': required attribute 'else_branch' is missing",
        ),
        (
            "y = Scan<body = b (float[3] r) => (float[3] s) { s = Neg(r) }>(x)",
            "Scan node that makes 'y': required attribute 'num_scan_inputs' is missing",
        ),
    ],
)
def test_graphs_that_are_not_well_formed(body, message):
    with pytest.raises(InvalidGraphError, match=re.escape(message)):
        evaluate(model(f"g (float[N,3] x) => (float[N,3] y) {{ {body} }}"), {"x": X})


def test_an_initializer_without_a_tensor():
    m = model("g (float[N,3] x) => (float[N,3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }")
    m.graph.initializers["w"].const_value = None
    with pytest.raises(InvalidGraphError, match="initializer 'w' has no tensor: set its const_val"):
        Judge(m)


def test_functions_that_call_each_other():
    m = model(
        """g (float[N,3] x) => (float[N,3] y) { y = f.A(x) }
        <domain: "f", opset_import: ["f": 1]> A (v) => (w) { w = f.B(v) }
        <domain: "f", opset_import: ["f": 1]> B (v) => (w) { w = f.A(v) }""",
        '"": 20, "f": 1',
    )
    message = "functions must not call themselves: f::A -> f::B -> f::A"
    with pytest.raises(InvalidGraphError, match=re.escape(message)):
        Judge(m)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "[mm] y = MatMul(x, x)",
            "MatMul node 'mm' failed on inputs (float32[2,3], float32[2,3]): ValueError: matmul: ",
        ),
        (
            "y = f.One(x, x)",
            "f::One node that makes 'y' failed on inputs (float32[2,3], float32[2,3]): "
            "ValueError: the function takes 1 inputs, got 2",
        ),
        ("y, z = Relu(x)", "Relu node that makes 'y', 'z' lists 2 outputs, but the op made 1"),
        (
            "y = Relu()",
            "Relu node that makes 'y' failed on inputs (): TypeError: relu() missing 1 required",
        ),
    ],
)
def test_nodes_that_fail_on_what_they_are_given(body, message):
    m = model(
        f"""g (float[N,3] x) => (float[N,3] y) {{ {body} }}
        <domain: "f", opset_import: ["": 20]> One (v) => (w) {{ w = Neg(v) }}""",
        '"": 20, "f": 1',
    )
    with pytest.raises(EvaluationError, match=re.escape(message)):
        evaluate(m, {"x": X})


def test_an_error_inside_a_function_says_who_called_it():
    m = model(
        """g (float[N,3] x) => (float[N,3] y) { [outer] y = f.Square(x) }
        <domain: "f", opset_import: ["": 20]> Square (v) => (w) { [inner] w = MatMul(v, v) }""",
        '"": 20, "f": 1',
    )
    with pytest.raises(EvaluationError, match="MatMul node 'inner' failed on") as caught:
        evaluate(m, {"x": X})
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.__notes__ == ["inside f::Square node 'outer'"]


def test_attributes_that_no_schema_knows_are_ignored_aloud(caplog):
    m = model("g (float[N,3] x) => (float[N,3] y) { y = Elu<alhpa = 2.0>(x) }")
    assert np.array_equal(X, evaluate(m, {"x": X})["y"])
    assert "attribute 'alhpa' is none of the op's and is ignored" in caplog.text


OPS = [
    ("y = Add<broadcast = 0>(x, s)", 6, "shapes (2, 3) and (3,) differ and broadcast is 0"),
    ("y = Div(i, j)", 20, "ZeroDivisionError: an integer is divided by zero"),
    ("y = Mod(i, j)", 20, "ZeroDivisionError: an integer is divided by zero"),
    ("y = BitCast<to = 4>(x)", 26, "the bits of float32 cannot be read as uint16"),
    (
        "y = MaxPool<kernel_shape = [2, 2]>(v)",
        20,
        "kernel (2, 2), strides (1,), dilations (1,) and pads (0, 0) do not fit 1 spatial dimens",
    ),
    (
        "y = MaxPool<kernel_shape = [4]>(v)",
        20,
        "a kernel that reaches over 4 does not fit into 3, the padded size of spatial dimension 0",
    ),
    (
        "y = DequantizeLinear<axis = 1, block_size = 2>(u, x)",
        21,
        "blocks of 2 of (2, 3) do not fit scales (2, 3)",
    ),
    ("y = DequantizeLinear<axis = 0>(u, s)", 20, "scales (3,) do not fit axis 0 of (2, 3)"),
    ("y = Resize(x)", 20, "one of scales and sizes must be given"),
    (
        'y = Resize<coordinate_transformation_mode = "odd">(x, , two)',
        20,
        "coordinate_transformation_mode 'odd' is unknown",
    ),
    ('y = Resize<nearest_mode = "odd">(x, , two)', 20, "nearest_mode 'odd' is unknown"),
    ('y = Resize<mode = "odd">(x, , two)', 20, "mode 'odd' is unknown"),
    ("y, z = TopK<axis = 1>(x, k)", 20, "k is 4, more than the 3 elements of axis 1"),
    ('y = RNN<activations = ["Odd"]>(v, v, v)', 20, "activation 'odd' is unknown"),
    (
        "q = SequenceConstruct(x)\n y = SequenceInsert(q, x, k)",
        20,
        "IndexError: position 4 is outside a sequence of 1",
    ),
    (
        "o = Optional<type = float[N]>()\n y = OptionalGetElement(o)",
        20,
        "ValueError: the optional is empty",
    ),
    ("y, z = Split<axis = 1>(x, kk)", 20, "split sizes (4, 4) do not add up to the dimension 3"),
    (
        "y = Conv<kernel_shape = [2]>(v, v)",
        20,
        "kernel_shape (2,) is not that of W, (3,)",
    ),
    (
        "y = Conv<group = 2>(v, v)",
        20,
        "X has 2 channels and W 1 filters of 2 channels: no fit for 2 groups",
    ),
    ('y = com.microsoft.FusedGemm<activation = "Odd">(x, t)', 20, "fused activation 'Odd' is unk"),
    (
        "y = com.microsoft.MatMulNBits<K = 16, N = 1, block_size = 16, weight_prepacked = 1>"
        "(x, u, s)",
        20,
        "weights packed for one device cannot be read",
    ),
    (
        "y = com.microsoft.Attention<num_heads = 1>(v, t, , k)",
        20,
        "a mask of shape () is unknown for batch 1, 2 keys",
    ),
    (
        "y = com.microsoft.Attention<num_heads = 1, do_rotary = 1>(v, t)",
        20,
        "do_rotary and past_present_share_buffer are not known here",
    ),
    (
        "y = com.microsoft.MultiHeadAttention<num_heads = 1>(v, v, v, , , , , , k)",
        20,
        "a shared or indirect cache is not known here",
    ),
    (
        "y = com.microsoft.MultiHeadAttention<num_heads = 1>(v, v)",
        20,
        "key and value may only be absent where the query packs them",
    ),
    (
        "y = com.microsoft.RotaryEmbedding<scale = 2.0>(v, k, x, x)",
        20,
        "is_packed_batching and scale are not known here",
    ),
]


@pytest.mark.parametrize(("body", "opset", "message"), OPS)
def test_ops_that_refuse(body, opset, message):
    m = model(
        f"""g (float[2,3] x) => (float[N,3] y) <
            float[3] s = {{1, 2, 3}}, float[3,3] t = {{1, 2, 3, 4, 5, 6, 7, 8, 9}},
            float[1,2,3] v = {{1, 2, 3, 4, 5, 6}}, float[2] two = {{2.0, 2.0}},
            uint8[2,3] u = {{1, 2, 3, 4, 5, 6}},
            int64[2] i = {{1, 2}}, int64[2] j = {{1, 0}}, int64 k = {{4}}, int64[2] kk = {{4, 4}}
        > {{ {body} }}""",
        f'"": {opset}, "com.microsoft": 1',
    )
    with pytest.raises(EvaluationError, match=re.escape(message)):
        evaluate(m, {"x": X})
