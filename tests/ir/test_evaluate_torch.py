"""The judge in float64 against torch in double, on drawn shapes and attributes."""

from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from addax.ir.evaluate import evaluate

EPS = float(np.finfo(np.float64).eps)


def run(op: str, inputs: list[Any], outputs: int = 1, opset: int = 22, **attributes: Any) -> Any:
    """One node's results in float64."""
    values = [
        None
        if x is None
        else ir.Value(
            name=f"i{k}",
            type=ir.TensorType(ir.DataType.from_numpy(x.dtype)),
            shape=ir.Shape(x.shape),
        )
        for k, x in enumerate(inputs)
    ]
    node = ir.node(op, values, attributes=attributes, num_outputs=outputs)
    for k, value in enumerate(node.outputs):
        value.name = f"o{k}"
    graph = ir.Graph(
        [v for v in values if v is not None],
        node.outputs,
        nodes=[node],
        opset_imports={"": opset},
        name="g",
    )
    feeds = {f"i{k}": x for k, x in enumerate(inputs) if x is not None}
    made = list(evaluate(ir.Model(graph, ir_version=10), feeds, precision=np.float64).values())
    return made[0] if outputs == 1 else made


def assert_near(expected: torch.Tensor, got: Any, terms: int) -> None:
    """Within the rounding of sums of `terms` terms, in any order, of results of this size."""
    want = expected.numpy()
    assert want.shape == got.shape
    bound = 4 * (terms + 4) * EPS * max(1.0, float(np.abs(want).max(initial=0.0)))
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def tensors(*arrays: Any) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    """A window over 1 to 3 spatial dimensions that fits into the padded input."""
    rank = draw(st.integers(1, 3))

    def each(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    kernel, dilations, strides = each(1, 3), each(1, 2), each(1, 3)
    before, behind = each(0, 2), each(0, 2)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = [r + extra for r, extra in zip(reach, each(0, 5), strict=True)]
    return {
        "rank": rank,
        "sizes": sizes,
        "kernel": kernel,
        "strides": strides,
        "dilations": dilations,
        "before": before,
        "behind": behind,
    }


def surround(x: torch.Tensor, w: dict[str, Any], value: float = 0.0) -> torch.Tensor:
    pairs = zip(reversed(w["before"]), reversed(w["behind"]), strict=True)
    return functional.pad(x, [p for pair in pairs for p in pair], value=value)


CONV = (functional.conv1d, functional.conv2d, functional.conv3d)
TRANSPOSED = (
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)


@given(windows(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3),
       st.booleans())  # fmt: skip
def test_conv(w, n, groups, depth, filters, biased):
    x = noise(n, groups * depth, *w["sizes"])
    weight, bias = noise(groups * filters, depth, *w["kernel"]), noise(groups * filters)
    got = run(
        "Conv",
        [x, weight, *([bias] if biased else [])],
        group=groups,
        strides=w["strides"],
        dilations=w["dilations"],
        pads=w["before"] + w["behind"],
    )
    tx, tw, tb = tensors(x, weight, bias)
    expected = CONV[w["rank"] - 1](
        surround(tx, w), tw, tb if biased else None, w["strides"], 0, w["dilations"], groups
    )
    assert_near(expected, got, depth * weight[0, 0].size)


def test_conv_over_more_windows_than_are_gathered_at_once():
    for n, size in ((40, 32), (1, 150)):
        x, weight = noise(n, 16, size, size), noise(8, 16, 3, 3)
        got = run("Conv", [x, weight], pads=[1, 1, 1, 1])
        tx, tw = tensors(x, weight)
        assert_near(functional.conv2d(tx, tw, padding=1), got, 16 * 9)


@given(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]), windows())
def test_auto_pad_places_as_many_windows_as_it_says(auto_pad, w):
    x, weight = noise(1, 2, *w["sizes"]), noise(3, 2, *w["kernel"])
    got = run(
        "Conv", [x, weight], auto_pad=auto_pad, strides=w["strides"], dilations=w["dilations"]
    )
    reach = [(k - 1) * d + 1 for k, d in zip(w["kernel"], w["dilations"], strict=True)]
    if auto_pad == "VALID":
        before = behind = [0] * w["rank"]
    else:
        rows = zip(w["sizes"], w["strides"], reach, strict=True)
        total = [max((-(-i // s) - 1) * s + r - i, 0) for i, s, r in rows]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        before, behind = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    tx, tw = tensors(x, weight)
    padded = surround(tx, {**w, "before": before, "behind": behind})
    expected = CONV[w["rank"] - 1](padded, tw, None, w["strides"], 0, w["dilations"])
    assert_near(expected, got, weight[0].size)


@given(windows(), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_conv_transpose(w, n, groups, depth, filters):
    x = noise(n, groups * depth, *w["sizes"])
    weight, bias = noise(groups * depth, filters, *w["kernel"]), noise(groups * filters)
    reach = [(k - 1) * d for k, d in zip(w["kernel"], w["dilations"], strict=True)]
    pads = [min(p, r) for p, r in zip(w["before"], reach, strict=True)]
    extra = [min(1, max(s, d) - 1) for s, d in zip(w["strides"], w["dilations"], strict=True)]
    got = run(
        "ConvTranspose",
        [x, weight, bias],
        group=groups,
        strides=w["strides"],
        dilations=w["dilations"],
        pads=pads * 2,
        output_padding=extra,
    )
    tx, tw, tb = tensors(x, weight, bias)
    expected = TRANSPOSED[w["rank"] - 1](
        tx, tw, tb, w["strides"], pads, extra, groups, w["dilations"]
    )
    assert_near(expected, got, depth * weight[0, 0].size)


@given(windows(), st.booleans())
def test_pools(w, ceil):
    x = noise(2, 3, *w["sizes"])
    pads = [min(b, k // 2) for b, k in zip(w["before"], w["kernel"], strict=True)]
    common = {"kernel_shape": w["kernel"], "strides": w["strides"], "pads": pads * 2}
    (tx,) = tensors(x)
    largest, places = getattr(functional, f"max_pool{w['rank']}d")(
        tx, w["kernel"], w["strides"], pads, w["dilations"], ceil, return_indices=True
    )
    got, got_places = run(
        "MaxPool", [x], 2, **common, dilations=w["dilations"], ceil_mode=int(ceil)
    )
    assert_near(largest, got, 0)
    images = np.arange(6).reshape(2, 3, *(1,) * w["rank"]) * x[0, 0].size
    assert np.array_equal(places.numpy() + images, got_places)
    alone = run("MaxPool", [x], **common, dilations=w["dilations"], ceil_mode=int(ceil))
    assert np.array_equal(got, alone)
    for counted in (False, True):
        mean = getattr(functional, f"avg_pool{w['rank']}d")(
            tx, w["kernel"], w["strides"], pads, ceil, counted
        )
        got = run("AveragePool", [x], **common, ceil_mode=int(ceil), count_include_pad=int(counted))
        assert_near(mean, got, int(np.prod(w["kernel"])))


@given(st.data())
def test_matmul_broadcasts(data):
    batch = data.draw(st.lists(st.integers(1, 3), max_size=3))
    left = [data.draw(st.sampled_from([1, d])) for d in batch]
    right = [
        d if a == 1 or data.draw(st.booleans()) else 1 for a, d in zip(left, batch, strict=True)
    ]
    right = right[data.draw(st.integers(0, len(right))) :]
    m, k, n = (data.draw(st.integers(1, 5)) for _ in range(3))
    a = noise(*left, m, k) if data.draw(st.booleans()) else noise(k)
    b = noise(*right, k, n) if data.draw(st.booleans()) else noise(k)
    ta, tb = tensors(a, b)
    assert_near(torch.matmul(ta, tb), run("MatMul", [a, b]), k)


@given(st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1)]), st.sampled_from([(), (1,), (5,), (4, 1)]))
def test_gemm(transposed, shape):
    a, b, c = noise(4, 3), noise(3, 5), noise(*shape)
    got = run(
        "Gemm",
        [a.T if transposed[0] else a, b.T if transposed[1] else b, c],
        alpha=0.5,
        beta=2.0,
        transA=transposed[0],
        transB=transposed[1],
    )
    ta, tb, tc = tensors(a, b, c)
    assert_near(0.5 * ta @ tb + 2 * tc.reshape(shape), got, 3)


def test_normalizations_and_activations():
    x, scale, bias = noise(2, 6, 4, 5), noise(6), noise(6)
    tx, ts, tb = tensors(x, scale, bias)
    eps = float(np.float32(1e-5))
    mean, variance = noise(6), np.abs(noise(6, seed=1)) + 0.5
    tm, tv = tensors(mean, variance)
    batch = functional.batch_norm(tx, tm, tv, ts, tb, eps=eps)
    assert_near(batch, run("BatchNormalization", [x, scale, bias, mean, variance]), 4)
    instance = functional.instance_norm(tx, weight=ts, bias=tb, eps=eps)
    assert_near(instance, run("InstanceNormalization", [x, scale, bias]), 20)
    group = functional.group_norm(tx, 3, ts, tb, eps)
    assert_near(group, run("GroupNormalization", [x, scale, bias], num_groups=3), 40)
    wide, narrow = noise(4, 5), noise(4, 5, seed=1)
    tw, tn = tensors(wide, narrow)
    layer = functional.layer_norm(tx, (4, 5), tw, tn, eps)
    assert_near(layer, run("LayerNormalization", [x, wide, narrow], axis=-2), 20)
    rms = functional.rms_norm(tx, (4, 5), tw, eps)
    assert_near(rms, run("RMSNormalization", [x, wide], opset=23, axis=2), 20)
    lrn = functional.local_response_norm(tx, 3, alpha=0.5, beta=0.75, k=2.0)
    assert_near(lrn, run("LRN", [x], size=3, alpha=0.5, beta=0.75, bias=2.0), 3)
    for op, attributes, expected in (
        ("Gelu", {}, functional.gelu(tx)),
        ("Gelu", {"approximate": "tanh"}, functional.gelu(tx, approximate="tanh")),
        ("Softmax", {"axis": 1}, functional.softmax(tx, 1)),
        ("LogSoftmax", {"axis": -1}, functional.log_softmax(tx, -1)),
        ("Sigmoid", {}, torch.sigmoid(tx)),
        ("Erf", {}, torch.erf(tx)),
        ("Mish", {}, functional.mish(tx)),
        ("HardSwish", {}, functional.hardswish(tx)),
        ("Softplus", {}, functional.softplus(tx)),
        ("Elu", {"alpha": 0.5}, functional.elu(tx, 0.5)),
        ("Celu", {"alpha": 0.5}, functional.celu(tx, 0.5)),
        ("LeakyRelu", {"alpha": 0.25}, functional.leaky_relu(tx, 0.25)),
    ):
        assert_near(expected, run(op, [x], **attributes), 8)


@given(st.sampled_from([1, 2, 4]), st.booleans(), st.booleans())
def test_attention_of_opset_23(groups, causal, named):
    q, k, v = noise(2, 4, 3, 8), noise(2, groups, 5, 8), noise(2, groups, 5, 8, seed=1)
    if causal:
        k, v = k[:, :, :3], v[:, :, :3]
    attributes = {"is_causal": int(causal)} | ({"softmax_precision": 1} if named else {})
    got = run("Attention", [q, k, v], opset=23, **attributes)
    expected = functional.scaled_dot_product_attention(
        *tensors(q, k, v), is_causal=causal, enable_gqa=True
    )
    assert_near(expected, got, 8)


RESIZED = [
    ("nearest", "asymmetric", {"nearest_mode": "floor"}, {}),
    ("linear", "half_pixel", {}, {"align_corners": False}),
    ("linear", "align_corners", {}, {"align_corners": True}),
    ("cubic", "half_pixel", {}, {"align_corners": False}),
]


@given(st.sampled_from(RESIZED), st.integers(2, 7), st.integers(2, 7), st.integers(1, 9),
       st.integers(1, 9))  # fmt: skip
def test_resize(kind, height, width, new_height, new_width):
    mode, coordinates, attributes, torch_attributes = kind
    x, sizes = noise(1, 2, height, width), np.array([new_height, new_width])
    got = run(
        "Resize",
        [x, None, None, sizes],
        mode=mode,
        coordinate_transformation_mode=coordinates,
        axes=[2, 3],
        **attributes,
    )
    names = {"linear": "bilinear", "cubic": "bicubic"}
    expected = functional.interpolate(
        *tensors(x), (new_height, new_width), mode=names.get(mode, mode), **torch_attributes
    )
    # torch multiplies by the reciprocal of the scale: coordinates differ in their last bits.
    assert_near(expected, got, 64)
