"""Old forms of ops, narrow formats, empty and scalar tensors: what onnx's own tests leave out."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from addax.ir.evaluate import evaluate

X = np.array([[[-1.5, 0.25, 2.0], [3.0, -4.0, 0.5]]], dtype=np.float32)
HALF = np.array([0.1, -2.5, 3.0], dtype=np.float16)
MS = "com.microsoft"


def run(opset, body, precision=None, outputs=1, **feeds):
    """The outputs `y`, `z` of nodes that read `feeds`."""
    kinds = {"float32": "float", "float64": "double", "object": "string"}
    inputs = ", ".join(
        f"{kinds.get(x.dtype.name, x.dtype.name)}[{','.join(map(str, x.shape))}] {name}"
        for name, x in feeds.items()
    )
    names = ", ".join(f"float[?] {name}" for name in ("y", "z")[:outputs])
    text = f'<ir_version: 8, opset_import: ["": {opset}, "{MS}": 1]>'
    model = ir.from_onnx_text(f"{text} g ({inputs}) => ({names}) {{ {body} }}")
    made = list(evaluate(model, feeds, precision=precision).values())
    return made[0] if outputs == 1 else made


@pytest.mark.parametrize(
    ("opset", "old", "new"),
    [
        (6, "y = Exp(x)", "y = Exp(x)"),
        (1, "y = Exp<consumed_inputs = [0]>(x)", "y = Exp(x)"),
        (1, "y = Concat(x, x)", "y = Concat<axis = 1>(x, x)"),
        (6, "y = Clip<min = -1.0, max = 1.0>(x)", "c = Neg(one)\n y = Clip(x, c, one)"),
        (1, "y = Reshape<shape = [3, -1]>(x)", "y = Reshape(x, threes)"),
        (9, "y = Slice<axes = [1, 2], starts = [-1, 0], ends = [9, -1]>(x)",
         "y = Slice(x, from, to, axes)"),
        (9, "y = Slice<starts = [0, 1, 0], ends = [1, 2, 2]>(x)",
         "y = Slice(x, s3, e3)"),
        (1, "y = Pad<paddings = [0, 0, 1, 0, 1, 0], value = 2.0>(x)", "y = Pad(x, pads, two)"),
        (2, "y = Pad<pads = [0, 0, 1, 0, 1, 0], value = 2.0>(x)", "y = Pad(x, pads, two)"),
        (5, "y = Tile(x, two_i, axis)", "y = Tile(x, repeats)"),
        (11, "y = Unsqueeze<axes = [0, 3]>(x)", "y = Unsqueeze(x, places)"),
        (11, "y = Squeeze<axes = [0]>(x)", "y = Squeeze(x, zero)"),
        (11, "y = ReduceSum<axes = [1], keepdims = 0>(x)", "y = ReduceSum<keepdims = 0>(x, axis)"),
        (17, "y = ReduceMax<axes = [1, 2]>(x)", "y = ReduceMax(x, axes)"),
        (7, 'y = Upsample<scales = [1.0, 2.0, 2.0], mode = "linear">(x)',
         'y = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">(x, , up)'),
        (9, "y = Upsample(x, up)",
         'y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">'
         "(x, , up)"),
        (10, "y = Resize(x, up)",
         'y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">'
         "(x, , up)"),
        (6, "y = BatchNormalization(x, s2, s2, s2, s2)",
         "y = BatchNormalization(x, s2, s2, s2, s2)"),
    ],
)  # fmt: skip
def test_an_old_form_means_the_new_one(opset, old, new):
    feeds = {
        "x": X,
        "one": np.array(1, np.float32),
        "two": np.array(2, np.float32),
        "threes": np.array([3, -1]),
        "axes": np.array([1, 2]),
        "from": np.array([-1, 0]),
        "to": np.array([9, -1]),
        "s3": np.array([0, 1, 0]),
        "e3": np.array([1, 2, 2]),
        "pads": np.array([0, 0, 1, 0, 1, 0]),
        "two_i": np.array(2),
        "axis": np.array([1]),
        "zero": np.array([0]),
        "places": np.array([0, 3]),
        "repeats": np.array([1, 2, 1]),
        "up": np.array([1, 2, 2], np.float32),
        "s2": np.array([1.0, 2.0], np.float32),
    }
    assert np.array_equal(run(21, new, **feeds), run(opset, old, **feeds))


def test_upsampling_of_opset_1_is_of_images():
    x = X[None]
    old = run(1, "y = Upsample<height_scale = 2.0, width_scale = 3.0>(x)", x=x)
    assert np.array_equal(x.repeat(2, axis=2).repeat(3, axis=3), old)


def test_broadcasting_before_opset_7_starts_at_an_axis():
    b = np.array([10, 20], np.float32)
    assert np.array_equal(
        X + b[:, None], run(6, "y = Add<axis = 1, broadcast = 1>(x, b)", x=X, b=b)
    )
    c = np.array([1, 2, 3], np.float32)
    assert np.array_equal(X * c, run(6, "y = Mul<broadcast = 1>(x, c)", x=X, c=c))


def test_softmax_before_opset_13_is_over_all_that_follows_its_axis():
    flat = np.exp(X - X.max()) / np.exp(X - X.max()).sum()
    for axis in (1, -2):
        got = run(11, f"y = Softmax<axis = {axis}>(x)", x=X)
        np.testing.assert_allclose(got, flat, rtol=8 * np.finfo(np.float32).eps)
    assert run(13, "y = Softmax(x)", x=X[:, :0]).shape == (1, 0, 3)


def test_largest_before_opset_10_come_by_an_attribute():
    values, places = run(9, "y, z = TopK<k = 2>(x)", x=X, outputs=2)
    assert np.array_equal([[[2, 0.25], [3, 0.5]]], values)
    assert np.array_equal([[[2, 1], [0, 2]]], places)


def test_p_relu_before_opset_7_has_a_slope_for_each_channel():
    slope = np.array([0.5, 2.0], np.float32)
    expected = np.where(X < 0, X * slope[:, None], X)
    assert np.array_equal(expected, run(6, "y = PRelu(x, s)", x=X, s=slope))


def test_selu_of_opset_1_has_shorter_constants():
    x = X.astype(np.float64)
    gamma, alpha = float(np.float32(1.0507)), float(np.float32(1.6732))
    expected = gamma * np.where(x < 0, alpha * np.expm1(x), x)
    got = run(1, "y = Selu(x)", np.float64, x=X)
    np.testing.assert_allclose(got, expected, rtol=1e-15)


def test_batch_normalization_in_training_before_opset_14():
    s, m, v = (np.array(a, np.float32) for a in ([1, 2], [0, 1], [1, 4]))
    model = "y, z, a, b, c = BatchNormalization<momentum = 0.75>(x, s, s, m, v)"  # five: it trains
    y, mean = run(9, model, x=X, s=s, m=m, v=v, outputs=2)
    batch = X.mean(axis=(0, 2))
    centred = X - batch[:, None]
    deviation = np.sqrt(X.var(axis=(0, 2)) + 1e-5)
    expected = centred / deviation[:, None] * s[:, None] + s[:, None]
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    np.testing.assert_allclose(mean, m * 0.75 + batch * 0.25, rtol=1e-6)


def test_group_normalization_before_opset_21_scales_groups():
    x = np.arange(8, dtype=np.float32).reshape(1, 4, 2) ** 2
    s, b = np.array([1, 2], np.float32), np.array([0, 5], np.float32)
    old = run(18, "y = GroupNormalization<num_groups = 2>(x, s, b)", x=x, s=s, b=b)
    new = run(
        21,
        "y = GroupNormalization<num_groups = 2>(x, s, b)",
        x=x,
        s=s.repeat(2),
        b=b.repeat(2),
    )
    assert np.array_equal(new, old)


@pytest.mark.parametrize(
    ("body", "call"),
    [
        ("y = Gelu(h)", None),
        ("y = Sigmoid(h)", lambda x: 1 / (1 + np.exp(-x))),
        ("y = Softmax(h)", lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum()),
        ("y = Pow(h, h)", None),
        ("y = MatMul(h, h)", lambda x: x @ x),
        ("y = ReduceMean(h)", lambda x: x.mean(keepdims=True)),
        ("y = Erf(h)", None),
        ("y = Mod<fmod = 1>(h, h)", None),
        ("y = Einsum<equation = \"i, i ->\">(h, h)", lambda x: x @ x),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves_are_computed_in_float32_and_rounded_once(body, call, dtype):
    x = np.abs(HALF).astype(dtype)
    got = run(20, body, h=x)
    assert got.dtype == dtype
    wide = x.astype(np.float32)
    exact = run(20, body, h=wide) if call is None else call(wide)
    assert np.array_equal(np.asarray(exact, np.float32).astype(dtype), got)


def test_an_integer_to_a_negative_power():
    got = run(15, "y = Pow(x, e)", x=np.array([1, 2, -1]), e=np.array([-1, -1, -1]))
    assert np.array_equal([1, 0, -1], got)


def test_means_of_integers_round_towards_zero():
    got = run(13, "y = ReduceMean<keepdims = 0>(x)", x=np.array([-1, -2, 0], np.int32))
    assert got.dtype == np.int32
    assert got == -1


def test_conversions_from_and_to_text():
    numbers = np.array([1.5, -2.0], np.float32)
    text = run(21, "y = Cast<to = 8>(x)", x=numbers)
    assert text.tolist() == ["1.5", "-2.0"]
    assert np.array_equal(numbers, run(21, "y = Cast<to = 1>(x)", x=text))
    assert run(21, "y = CastLike(x, t)", x=np.array([3, 4]), t=text).tolist() == ["3", "4"]
    half = run(21, "y = Cast<to = 16>(x)", x=text)
    assert half.dtype == ml_dtypes.bfloat16


def test_empty_and_scalar_tensors():
    none = np.zeros((2, 0, 3), np.float32)
    assert run(20, "y = Reshape<allowzero = 1>(x, s)", x=none, s=np.array([0, 7])).shape == (0, 7)
    assert run(20, "y = Reshape(x, s)", x=none, s=np.array([-1, 3])).shape == (0, 3)
    assert run(20, "y = NonZero(x)", x=np.array(3.0, np.float32)).shape == (0, 1)
    assert run(20, "y = ReduceSum(x)", x=none).tolist() == [[[0]]]
    assert run(20, "y = ReduceMax<keepdims = 0>(x)", x=none) == -np.inf
    assert run(20, "y = Add(x, x)", x=np.array(1.5, np.float32)).shape == ()


def test_global_pools_by_norm():
    got = run(20, "y = GlobalLpPool<p = 1>(x)", x=X)
    assert np.array_equal(np.abs(X).sum(axis=2, keepdims=True), got)


def test_quantizing_in_another_precision():
    x, scale = np.array([1.0, 2.0], np.float32), np.array(0.3, np.float32)
    got = run(23, "y = QuantizeLinear<precision = 10>(x, s)", x=x, s=scale)
    assert np.array_equal(np.rint(x.astype(np.float16) / np.float16(0.3)), got)
    assert run(20, "y, z = DynamicQuantizeLinear(x)", x=x * 0, outputs=2)[1] == 1


def test_fused_ops_that_no_cpu_runs():
    a, b = X[0], np.array([1, 2, 3], np.float32)
    gelu = run(20, 'y = Gelu<approximate = "tanh">(x)', x=a @ a.T + b[:2])
    fast = run(20, f"y = {MS}.GemmFastGelu(x, w, b)", x=a, w=a.T.copy(), b=b[:2].copy())
    assert np.array_equal(gelu, fast)
    assert np.array_equal(X + b + X, run(20, f"y = {MS}.BiasAdd(x, b, x)", x=X, b=b))
    pair, half = np.concatenate([X, X], axis=2), np.zeros(6, np.float32)
    expected = X * run(20, "y = Gelu(x)", x=X)
    assert np.array_equal(expected, run(20, f"y = {MS}.BiasSplitGelu(x, b)", x=pair, b=half))
    plain = run(23, "y = RMSNormalization(x, s)", x=X, s=b)
    theirs = run(23, f"y = {MS}.SimplifiedLayerNormalization(x, s)", x=X, s=b)
    assert np.array_equal(plain, theirs)
    gemm = run(20, "y = Gemm(a, a)", a=np.eye(3, dtype=np.float32))
    fused = run(20, f"y = {MS}.FusedGemm(a, a)", a=np.eye(3, dtype=np.float32))
    assert np.array_equal(gemm, fused)


def test_weights_of_three_bits_straddle_bytes():
    codes = np.arange(16, dtype=np.uint8) % 8
    bits = (codes[:, None] >> np.arange(3)) & 1
    packed = np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").reshape(1, 1, -1)
    got = run(
        20,
        f"y = {MS}.MatMulNBits<K = 16, N = 1, block_size = 16, bits = 3>(x, w, s)",
        x=np.eye(16, dtype=np.float32),
        w=packed,
        s=np.ones((1, 1), np.float32),
    )
    assert np.array_equal(codes.astype(np.float32) - 4, got[:, 0])


def test_a_mask_over_all_positions_that_there_may_be():
    x, w = np.repeat(X, 2, axis=1), np.tile(np.eye(3, dtype=np.float32), 3)
    mask = np.tril(np.ones((1, 1, 9, 9), np.int32))
    body = f"y = {MS}.Attention<num_heads = 1>(x, w, , m)"
    causal = run(20, f"y = {MS}.Attention<num_heads = 1, unidirectional = 1>(x, w)", x=x, w=w)
    np.testing.assert_allclose(run(20, body, x=x, w=w, m=mask), causal, rtol=1e-6)


def test_the_clip_of_a_layer_bounds_what_every_activation_reads():
    """By the text of ONNX the last activation of an LSTM too, where ONNX Runtime does not."""
    rng = np.random.default_rng(0)
    x, w, r = (
        rng.standard_normal(s).astype(np.float32) * 3 for s in ((9, 2, 3), (1, 16, 3), (1, 16, 4))
    )
    y = run(20, "y = LSTM<hidden_size = 4, clip = 0.5>(x, w, r)", x=x, w=w, r=r)
    bound = np.tanh(0.5) / (1 + np.exp(-0.5))
    assert np.abs(y).max() <= bound * (1 + 1e-6)
    assert np.abs(y).max() > 0.9 * bound
