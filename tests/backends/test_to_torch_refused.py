"""What to_torch refuses: all of it at once, each with its place and its reason."""

import logging

import numpy as np
import onnx_ir as ir
import pytest

from addax.backends._torch_ops import unsigned
from addax.backends._torch_ops.site import Unsupported
from addax.backends.to_torch import to_torch
from addax.errors import UnsupportedOpError
from addax.ir.origin import set_origin
from tests.backends.exchange import parsed


def refused(model: ir.Model) -> str:
    with pytest.raises(UnsupportedOpError) as caught:
        to_torch(model)
    return str(caught.value)


def test_every_node_without_a_meaning_is_listed_with_what_to_do():
    model = parsed("""<ir_version: 10, opset_import: ["": 20, "own": 3]>
        g (float[2] x, int64[1] k, string[1] s) => (d, e, f) {
            a = own.Strange(x)
            b = Neg(a)
            c = own.Odd(b)
            d = StringNormalizer(s)
            e, f = Unique <axis = 0, sorted = 1> (c)
        }""")
    model.graph[0].name = "first"
    set_origin(model.graph[0], "blocks.0", "strange")
    assert refused(model).splitlines() == [
        "3 nodes have no meaning in torch:",
        "  node 'first': Strange of domain 'own' at opset 3: torch has no converter for it, and "
        "the model no function (from blocks.0 strange)",
        f"  node {model.graph[2].name!r}: Odd of domain 'own' at opset 3: torch has no converter "
        "for it, and the model no function",
        f"  node {model.graph[3].name!r}: StringNormalizer of domain '' at opset 20: torch has no "
        "converter for it, and the model no function",
        "Give the model a function of that domain and name as the op's body, rewrite the node into "
        "standard ops, or run the model by addax.backends.to_ort, which needs no converter.",
    ]


def test_a_long_list_is_cut():
    body = " ".join(f"y{k} = own.Strange(x)" for k in range(23))
    text = refused(
        parsed(
            f'<ir_version: 10, opset_import: ["": 20, "own": 1]>\n'
            f"g (float[2] x) => (y0) {{ {body} }}"
        )
    )
    assert text.startswith("23 nodes have no meaning in torch:")
    assert text.splitlines()[21] == "  and 3 more"


def test_nodes_inside_branches_and_functions_are_found():
    text = refused(
        parsed("""<ir_version: 10, opset_import: ["": 20, "own": 1]>
        g (float[2] x, bool go) => (y) {
            a = own.call(x)
            y = If (go) <then_branch = t () => (b) { b = StringNormalizer(a) },
                         else_branch = f () => (c) { c = Identity(x) }>
        }
        <domain: "own", opset_import: ["": 20]>
        call (x) => (y) { y = RegexFullMatch(x) }""")
    )
    assert "RegexFullMatch" in text
    # The branch reads what the refused node makes, and still is looked into.
    assert "StringNormalizer" in text


X = "float[2, 3, 4, 4] x"
RNN = "float[2, 1, 3] x, float[1, 4, 3] w, float[1, 4, 4] r"
LSTM = "float[2, 1, 3] x, float[1, 16, 3] w, float[1, 16, 4] r"
REFUSED = [
    ("float[] x", "y = GlobalAveragePool(x)", r"the rank of input 0 \('x'\) is unknown"),
    ("float[] x, int64[N] k", "y = Slice(x, k, k)", "how many numbers input 1 .* has is unknown"),
    ("float[2, 3] x, int64[N, M] i", "y = GatherND(x, i)", "how many axes each index has"),
    ("float[2] x, int64[N, M] i, float[N] u", "y = ScatterND(x, i, u)", "how many axes each index"),
    ("float[2] x, int64[3, 0] i, float[3, 2] u", "y = ScatterND(x, i, u)", "address no element"),
    ("string[2] x", "y = Identity(x)", "torch has no element type STRING"),
    ("float[2] x", "y = Cast <to = 8> (x)", "torch has no element type STRING"),
    ("float[2] x", "y = Cast <to = 22> (x)", "cannot round to INT4 and stay in its range"),
    ("float[2] x", 'y = Constant <value_string = "a"> ()', "neither strings nor sparse constants"),
    ("int64[N] x", "zero = Constant <value_int = 0> () s = Size(x) y = Div(s, zero)", "by zero"),
    ("int64[N] x", "zero = Constant <value_int = 0> () s = Size(x) y = Mod(s, zero)", "by zero"),
    (
        "float[N] x",
        "far = Constant <value_int = 3> () s = Shape(x) y = Gather(s, far)",
        r"it gathers \[3\] from 1 elements",
    ),
    (
        "float[1,1,2,2,2,2] x, float[1,1,1,1,1,1] w",
        "y = Conv(x, w)",
        "convolves 1 to 3 spatial axes, not 4",
    ),
    (
        "float[1,1,2,2,2,2] x, float[1,1,1,1,1,1] w",
        "y = ConvTranspose(x, w)",
        "convolves 1 to 3 spatial axes, not 4",
    ),
    (
        "float[1,1,2,2,2,2] x",
        "y = MaxPool <kernel_shape = [1, 1, 1, 1]> (x)",
        "pools over 1 to 3 spatial axes, not 4",
    ),
    (
        X,
        "y = MaxPool <kernel_shape = [3, 3], pads = [0, 1, 1, 1], ceil_mode = 1> (x)",
        "rounds sizes up only where padding is small and even",
    ),
    (
        "float[2, 3, H, 4] x",
        "y = AveragePool <kernel_shape = [3, 3], pads = [0, 1, 1, 1], ceil_mode = 1> (x)",
        "needs static sizes where padding is uneven",
    ),
    (
        "int32[2, 2] a, int32[2, 2] b",
        "y = Gemm <alpha = 0.5> (a, b)",
        "0.5 times an integer matrix is not defined",
    ),
    ("int32[2, 2] x", "y = ReduceLogSum(x)", "the logarithm of integers has no torch form"),
    ("int32[2, 2] x", "y = ReduceLogSumExp(x)", "the logarithm of integers has no torch form"),
    (
        "float[2, 0] x, int64[1] k",
        "y = ReduceMax(x, k)",
        "axes of an empty tensor are computed",
    ),
    ("float[2, 2] x, int64[2] p, int64[1] a", "y = Pad(x, p, , a)", "the axes are computed"),
    (X, "y = Resize(x)", "neither scales nor sizes"),
    (
        X + ", int64[4] s",
        'y = Resize <keep_aspect_ratio_policy = "not_larger"> (x, , , s)',
        "policy 'not_larger' must be constants",
    ),
    (
        "float[2, 3, 4, 4, 4] x, float[2, 3, 3, 3, 3] g",
        'y = GridSample <mode = "cubic"> (x, g)',
        "samples cubes only bilinearly",
    ),
    (
        X + ", float[1, 4] r, int64[1] b",
        'y = RoiAlign <mode = "max"> (x, r, b)',
        "maximum of weighted neighbours",
    ),
    (
        "float[1, 8, 4] x",
        "i = Constant <value_ints = [2, 2, 2]> () b = Constant <value_ints = [2, 2, 2]> () "
        "y = Col2Im(x, i, b)",
        "folds two spatial axes, not 3",
    ),
    (
        "float[1, 4, 4] x",
        "i = Constant <value_ints = [3, 3]> () b = Constant <value_ints = [2, 2]> () "
        "y = Col2Im <pads = [0, 1, 1, 1]> (x, i, b)",
        "the same padding at both ends",
    ),
    ("float[2, 4, 1] x, int64 a", "y = DFT(x, , a)", "the axis is computed"),
    ("float[2, 4, K] x", "y = DFT(x)", "whether the last axis holds complex numbers is unknown"),
    ("float[2, 4, 2] x", "y = DFT <onesided = 1> (x)", "half of a complex transform"),
    ("float[2, 4, 1] x, int64 s", "y = STFT(x, s)", "neither a window nor a frame length"),
    (
        "float[2] x, float r, bool t",
        "y = Dropout(x, r, t)",
        "input 2 .'t'. is computed; it must be a constant here",
    ),
    (
        "float[2] x",
        "r = Constant <value_float = 0.5> () t = Constant <value = bool {1}> () "
        "y = Dropout(x, r, t)",
        "dropout in training is random",
    ),
    (RNN, 'y = RNN <activations = ["Affine"], hidden_size = 4> (x, w, r)', "'affine' is none of"),
    (
        RNN,
        "y = RNN <activation_alpha = [0.5], hidden_size = 4> (x, w, r)",
        "activations with parameters have no converter",
    ),
    (LSTM, "y = LSTM <input_forget = 1, hidden_size = 4> (x, w, r)", "coupled input and forget"),
    ("uint64[2] a, uint64[2] b", "y = Div(a, b)", "no arithmetic on UINT64; cast to INT64"),
]


@pytest.mark.parametrize(("inputs", "nodes", "reason"), REFUSED)
def test_a_form_is_refused(inputs, nodes, reason):
    text = refused(parsed(f"g ({inputs}) => (y) {{ {nodes} }}"))
    assert text.startswith("1 node has no meaning in torch")
    with pytest.raises(UnsupportedOpError, match=reason):
        raise UnsupportedOpError(text)


OLD = [
    (6, "y = BatchNormalization <is_test = 0> (x, w, w, w, w)", "training of before opset 7"),
    (8, "y = BatchNormalization <spatial = 0> (x, w, w, w, w)", "spatial=0"),
    (9, "y, m, v = BatchNormalization (x, w, w, w, w)", "training outputs of before opset 14"),
    (6, "y = Dropout <is_test = 0> (x)", "dropout in training is random"),
]


@pytest.mark.parametrize(("opset", "nodes", "reason"), OLD)
def test_an_old_form_is_refused(opset, nodes, reason):
    text = f"""<ir_version: 10, opset_import: ["": {opset}]>
        g (float[2, 3, 4] x, float[3] w) => (y) {{ {nodes} }}"""
    assert reason in refused(parsed(text))


CONTRIB = [
    ("float[2] x", "y = M.Gelu(x, x)", "it has 2 inputs, 1 were expected"),
    ("float[2] x", "y = M.BiasGelu(x, )", "input 1 is missing"),
    ("float[1, 2, 4] x", "y = M.MultiHeadAttention(x)", "attribute 'num_heads' is missing"),
    (
        "float[2] x",
        "y = M.QuickGelu <odd = 1> (x)",
        "attribute 'odd' has no meaning here; known are: alpha",
    ),
    (
        "float[2, 2] a, float[2, 2] b",
        'y = M.FusedGemm <activation = "Odd"> (a, b)',
        "'Odd' is none",
    ),
    (
        "float[2, 2] x, float[2, 2] s",
        "y = M.SimplifiedLayerNormalization <axis = 0> (x, s)",
        "only the last axis",
    ),
    (
        "float[1, 2, 4] x, float[4, 12] w",
        "y = M.Attention <num_heads = 2, do_rotary = 1> (x, w)",
        "rotary embeddings and a shared cache",
    ),
    (
        "float[1, 2, 4] x, float[4, 12] w, int32 m",
        "y = M.Attention <num_heads = 2> (x, w, , m)",
        "a mask has 1 to 4 axes",
    ),
    (
        "float[1, 2, 4] x, int32 m",
        "y = M.MultiHeadAttention <num_heads = 2> (x, x, x, , m)",
        "a mask has 1 to 4 axes",
    ),
    (
        "float[1, 2, 4] x",
        "y = M.MultiHeadAttention <num_heads = 2> (x)",
        "key and value may only be absent where the query packs them",
    ),
]


@pytest.mark.parametrize(("inputs", "nodes", "reason"), CONTRIB)
def test_a_form_of_a_fused_op_is_refused(inputs, nodes, reason):
    text = f"""<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>
        g ({inputs}) => (y) {{ {nodes.replace("M.", "com.microsoft.")} }}"""
    assert reason in refused(parsed(text))


def test_misspelt_attributes_are_ignored_with_a_warning(caplog):
    # ONNX Runtime takes LayerNormalization at opsets that do not define it.
    model = parsed("""<ir_version: 8, opset_import: ["": 13]>
        g (float[2] x, float[2] s) => (y) { y = LayerNormalization <epsion = 0.5> (x, s) }""")
    with caplog.at_level(logging.WARNING):
        to_torch(model)
    assert "LayerNormalization has no attribute 'epsion'" in caplog.text


def test_a_constant_of_strings_may_not_leave_the_graph():
    model = parsed("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    words = ir.Value(
        name="words", const_value=ir.StringTensor(np.array([b"a"], object), name="words")
    )
    model.graph.register_initializer(words)
    model.graph.outputs.append(words)
    with pytest.raises(UnsupportedOpError, match="'words' has elements of type STRING"):
        to_torch(model)


def test_a_loop_whose_stack_has_no_type_is_refused():
    text = refused(
        parsed("""<ir_version: 10, opset_import: ["": 20, "own": 1]>
        g (int64 n, float[2] x) => (all) {
            all = Loop (n, , ) <body = b (int64 k, bool go) => (bool more, each) {
                more = Identity(go)
                each = own.Strange(x)
            }>
        }""")
    )
    assert "Strange of domain 'own'" in text
    assert "the element type of output 'each' of the body is unknown: declare it" in text


def test_results_of_wide_unsigned_arithmetic_need_a_type():
    node = ir.Node("", "Add", [], num_outputs=1)
    node.outputs[0].name = "sum"
    with pytest.raises(Unsupported, match="the element type of 'sum' is unknown"):
        unsigned.narrowed(node, None)
