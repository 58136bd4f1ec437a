"""The judge against ONNX Runtime, a node at a time: recurrent layers, and the runtime's own ops."""

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from addax.ir.evaluate import evaluate

MS = "com.microsoft"


def noise(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def codes(*shape: int, seed: int = 0, dtype: Any = np.uint8) -> Any:
    info = np.iinfo(dtype)
    return np.random.default_rng([seed, *shape]).integers(info.min, info.max + 1, shape, dtype)


def model(op: str, inputs: list[Any], outputs: int, domain: str, attributes: Any) -> ir.Model:
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
    node = ir.node(op, values, attributes=attributes, num_outputs=outputs, domain=domain)
    for k, value in enumerate(node.outputs):
        value.name = f"o{k}"
        value.type = ir.TensorType(ir.DataType.UNDEFINED)
    given = [v for v in values if v is not None]
    graph = ir.Graph(given, node.outputs, nodes=[node], opset_imports={"": 17, MS: 1}, name="g")
    return ir.Model(graph, ir_version=9)


def agrees(
    op: str,
    inputs: list[Any],
    *,
    outputs: int = 1,
    domain: str = "",
    step: float = 0.0,
    **attributes: Any,
) -> None:
    """ONNX Runtime's outputs are the judge's, but for rounding in the type that it computes in.

    `step` is what a code of a quantized input may change, as a share of the largest output.
    """
    made = model(op, inputs, outputs, domain, attributes)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    proto = ir.to_proto(made)
    for value in proto.graph.output:
        value.ClearField("type")
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {f"i{k}": x for k, x in enumerate(inputs) if x is not None}
    expected = session.run(None, feeds)
    for precision in (None, np.float64):
        got = evaluate(made, feeds, precision=precision)
        for want, (name, have) in zip(expected, got.items(), strict=True):
            assert want.shape == have.shape, name
            if precision is None:
                assert want.dtype == have.dtype, name
            if want.dtype.kind in "iu":
                assert np.abs(want.astype(int) - have.astype(int)).max() <= (1 if step else 0), name
                continue
            largest = float(np.abs(want).max(initial=0.0))
            atol = max(step, 64 * float(np.finfo(want.dtype).eps)) * largest
            np.testing.assert_allclose(have, want, rtol=0, atol=atol, err_msg=name)


def layer(gates: int, directions: int, batch: int = 2, steps: int = 5) -> list[Any]:
    inputs, hidden = 3, 4
    return [
        noise(steps, batch, inputs),
        noise(directions, gates * hidden, inputs, seed=1),
        noise(directions, gates * hidden, hidden, seed=2),
        noise(directions, 2 * gates * hidden, seed=3),
        np.array([steps, steps - 2], np.int32),
        noise(directions, batch, hidden, seed=4),
    ]


DIRECTIONS = [("forward", 1), ("reverse", 1), ("bidirectional", 2)]


@pytest.mark.parametrize(("direction", "count"), DIRECTIONS)
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_with_lengths_in_every_direction(op, direction, count):
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    inputs = layer(gates, count)
    common = {"outputs": 2, "direction": direction, "hidden_size": 4}
    if op == "LSTM":
        inputs += [noise(count, 2, 4, seed=5), noise(count, 12, seed=6)]
        common["outputs"] = 3
    agrees(op, inputs, **common)
    agrees(op, inputs[:3], **common)
    agrees(op, [*inputs[:4], None, *inputs[5:]], **common)


def test_recurrent_layers_with_other_activations_and_clipping():
    agrees("RNN", layer(1, 1)[:4], activations=["Relu"], hidden_size=4)
    agrees("RNN", layer(1, 1)[:4], activations=["Tanh"], clip=0.5, hidden_size=4)
    agrees("RNN", layer(1, 1)[:4], activations=["Softsign"], hidden_size=4)
    for before in (0, 1):
        agrees(
            "GRU",
            layer(3, 1)[:4],
            activations=["HardSigmoid", "LeakyRelu"],
            activation_alpha=[0.25, 0.1],
            activation_beta=[0.5, 0.0],
            linear_before_reset=before,
            hidden_size=4,
        )
    agrees("LSTM", layer(4, 1)[:4], activations=["Sigmoid", "Elu", "Relu"], activation_alpha=[1.0],
           hidden_size=4, outputs=3)  # fmt: skip
    agrees("LSTM", layer(4, 1)[:4], input_forget=1, hidden_size=4, outputs=3)


def test_a_layer_laid_out_by_batch_is_the_transpose():
    inputs = layer(4, 2)
    turned = [inputs[0].swapaxes(0, 1), *inputs[1:5], inputs[5].swapaxes(0, 1)]
    outputs = []
    for layout, given in ((0, inputs), (1, turned)):
        made = model("LSTM", given, 3, "", {"direction": "bidirectional", "layout": layout})
        feeds = {f"i{k}": x for k, x in enumerate(given)}
        outputs.append(list(evaluate(made, feeds).values()))
    (y, h, c), (y1, h1, c1) = outputs
    assert np.array_equal(y.transpose(2, 0, 1, 3), y1)
    assert np.array_equal(h.swapaxes(0, 1), h1)
    assert np.array_equal(c.swapaxes(0, 1), c1)


def test_fused_activations():
    x, bias = noise(2, 5, 8), noise(8)
    agrees("Gelu", [x], domain=MS)
    agrees("BiasGelu", [x, bias], domain=MS)
    agrees("FastGelu", [x], domain=MS)
    agrees("FastGelu", [x, bias], domain=MS)
    agrees("QuickGelu", [x], domain=MS)
    agrees("QuickGelu", [x], domain=MS, alpha=0.5)


@pytest.mark.parametrize("turn_a", [0, 1])
@pytest.mark.parametrize("turn_b", [0, 1])
@pytest.mark.parametrize("batch", [0, 1])
def test_fused_matmul(turn_a, turn_b, batch):
    a, b = noise(2, 2, 3, 4), noise(2, 2, 4, 5, seed=1)
    a = a.swapaxes(-1, -2) if turn_a else a
    b = b.swapaxes(-1, -2) if turn_b else b
    if batch:  # the batch dimension that the op moves back to its place
        a, b = np.moveaxis(a, -2, 0), np.moveaxis(b, -2, 0)
    agrees(
        "FusedMatMul",
        [np.ascontiguousarray(a), np.ascontiguousarray(b)],
        domain=MS,
        alpha=0.5,
        transA=turn_a,
        transB=turn_b,
        transBatchA=batch,
        transBatchB=batch,
    )


def test_fused_products_and_convolutions():
    agrees("FusedGemm", [noise(3, 4), noise(4, 5), noise(5)], domain=MS, activation="LeakyRelu",
           activation_alpha=0.25, alpha=2.0)  # fmt: skip
    for name, params in (("Relu", []), ("Tanh", []), ("Sigmoid", []), ("LeakyRelu", [0.25]),
                         ("Clip", [-0.5, 0.5]), ("HardSigmoid", [0.25, 0.5])):  # fmt: skip
        agrees(
            "FusedConv",
            [noise(1, 4, 6, 6), noise(8, 2, 3, 3), noise(8)],
            domain=MS,
            activation=name,
            **({"activation_params": params} if params else {}),
            group=2,
            pads=[1, 1, 1, 1],
        )
    z = noise(1, 8, 4, 4)
    agrees("FusedConv", [noise(1, 4, 6, 6), noise(8, 4, 3, 3), noise(8), z], domain=MS,
           activation="Relu")  # fmt: skip


def test_normalizations_with_a_residual():
    x, skip, gamma, beta, bias = (noise(2, 3, 8, seed=k) if k < 2 else noise(8, seed=k)
                                  for k in range(5))  # fmt: skip
    agrees("SkipLayerNormalization", [x, skip, gamma, beta, bias], domain=MS, epsilon=1e-5)
    agrees("SkipLayerNormalization", [x, skip[:1], gamma], domain=MS, epsilon=1e-5)
    agrees("SkipSimplifiedLayerNormalization", [x, skip, gamma, bias], domain=MS, epsilon=1e-5)
    agrees("SimplifiedLayerNormalization", [x, gamma], axis=-1, epsilon=1e-5)
    ids = np.array([[0, 2, 1], [3, 3, 0]], np.int32)
    mask = np.array([[1, 1, 0], [1, 0, 0]], np.int32)
    tables = [noise(4, 8), noise(5, 8), noise(4, 8, seed=1)]
    agrees("EmbedLayerNormalization", [ids, ids, *tables, gamma, beta, mask], outputs=2, domain=MS,
           epsilon=1e-5)  # fmt: skip
    agrees("EmbedLayerNormalization", [ids, None, *tables[:2], None, gamma, beta], outputs=2,
           domain=MS)  # fmt: skip


MASKS = {
    "none": None,
    "keys": np.array([[1, 1, 0, 1], [1, 0, 0, 1]], np.int32),
    "queries": np.tril(np.ones((2, 4, 4), np.int32)),
    "ends": np.array([3, 4], np.int32),
    "ends and starts": np.array([4, 4, 1, 0], np.int32),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(mask, causal):
    x, weights, bias = noise(2, 4, 6), noise(6, 24), noise(24)
    agrees("Attention", [x, weights, bias, MASKS[mask]], domain=MS, num_heads=2,
           unidirectional=causal)  # fmt: skip


def test_attention_with_a_past_a_bias_and_other_sizes():
    x, past = noise(2, 4, 6), noise(2, 2, 2, 3, 4)
    agrees("Attention", [x, noise(6, 24), noise(24), None, past], outputs=2, domain=MS, num_heads=2,
           unidirectional=1, scale=0.25)  # fmt: skip
    agrees("Attention", [x, noise(6, 22), noise(22), None, None, noise(2, 2, 4, 4)], domain=MS,
           num_heads=2, qkv_hidden_sizes=[8, 8, 6])  # fmt: skip


def test_multi_head_attention():
    q, k, v = noise(2, 4, 8), noise(2, 5, 8, seed=1), noise(2, 5, 6, seed=2)
    mask = np.array([[1, 1, 0, 1, 1], [1, 0, 0, 1, 1]], np.int32)
    common = {"domain": MS, "num_heads": 2}
    agrees("MultiHeadAttention", [q, k, v], **common)
    agrees("MultiHeadAttention", [q, k, v, noise(22), mask, noise(1, 2, 4, 5)], **common)
    heads = [noise(2, 2, 5, 4, seed=s) for s in (1, 2)]
    agrees("MultiHeadAttention", [q, *heads], **common)
    same = [noise(2, 4, 8, seed=s) for s in range(3)]
    past = [noise(2, 2, 3, 4, seed=s) for s in (1, 2)]
    agrees("MultiHeadAttention", [*same, None, None, None, *past], outputs=3, unidirectional=1,
           **common)  # fmt: skip


def test_packed_inputs_are_their_parts():
    """The runtime has no CPU kernel for these forms: they are compared with the plain one."""

    def attended(*inputs: Any) -> Any:
        made = model("MultiHeadAttention", list(inputs), 1, MS, {"num_heads": 2})
        feeds = {f"i{k}": x for k, x in enumerate(inputs)}
        return evaluate(made, feeds)["o0"]

    packed = noise(2, 4, 2, 3, 4)
    q, k, v = (packed[:, :, :, i].reshape(2, 4, 8) for i in range(3))
    assert np.array_equal(attended(q, k, v), attended(packed))
    assert np.array_equal(attended(q, k, v), attended(q, packed[:, :, :, 1:].copy()))


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved):
    cache = [noise(9, 4), noise(9, 4, seed=1)]
    common = {"domain": MS, "interleaved": interleaved}
    places = np.array([[0, 3, 1], [8, 2, 2]], np.int64)
    agrees("RotaryEmbedding", [noise(2, 3, 16), places, *cache], **common)
    agrees("RotaryEmbedding", [noise(2, 2, 3, 8), np.array([4], np.int64), *cache], **common)
    half = [c[:, :2].copy() for c in cache]
    agrees("RotaryEmbedding", [noise(2, 3, 16), places, *half], num_heads=2, rotary_embedding_dim=4,
           **common)  # fmt: skip


@pytest.mark.parametrize("weight_dtype", [np.uint8, np.int8])
def test_products_with_integer_weights(weight_dtype):
    a, b = noise(2, 3, 8), codes(8, 5, dtype=weight_dtype)
    scale, zero = np.abs(noise(5)) / 64, codes(5, seed=1, dtype=weight_dtype)
    # The runtime quantizes A in float32: a tie in its codes moves the result by a part of 255.
    agrees("DynamicQuantizeMatMul", [a, b, scale, zero, noise(5)], domain=MS, step=1 / 64)
    agrees("DynamicQuantizeMatMul", [a, b, scale[:1]], domain=MS, step=1 / 64)
    a_scale, a_zero = np.array(0.05, np.float32), np.array(120, np.uint8)
    agrees("MatMulIntegerToFloat", [codes(3, 8), b, a_scale, scale, a_zero, zero, noise(5)],
           domain=MS)  # fmt: skip


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zero", ["none", "packed", "unpacked"])
def test_matmul_n_bits(bits, zero):
    if (bits, zero) == (8, "unpacked"):
        pytest.skip("the runtime does not take it")
    k, n, block = 40, 6, 16
    blocks, blob = -(-k // block), block * bits // 8
    weights, scales = codes(n, blocks, blob), noise(n, blocks)
    zeros = {
        "none": None,
        "packed": codes(n, -(-blocks * bits // 8)),
        "unpacked": np.full((n, blocks), 2.5, np.float32),
    }[zero]
    agrees("MatMulNBits", [noise(2, 3, k), weights, scales, zeros, None, noise(n)], domain=MS, K=k,
           N=n, block_size=block, bits=bits)  # fmt: skip


def test_quantized_sums_and_products():
    a, b = codes(4, 5), codes(5, seed=1)
    scales = [np.array(s, np.float32) for s in (0.02, 0.05, 0.1)]
    zeros = [np.array(z, np.uint8) for z in (10, 128, 100)]
    given = [a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2]]
    agrees("QLinearAdd", given, domain=MS, step=1.0)
    agrees("QLinearMul", given, domain=MS, step=1.0)
    x = noise(3, 4)
    agrees("QuantizeLinear", [x, scales[0], zeros[0]], domain=MS)
    agrees("DequantizeLinear", [codes(3, 4), scales[0], zeros[0]], domain=MS)


def test_quantized_products_and_convolutions():
    a, b = codes(3, 8), codes(8, 5, seed=1, dtype=np.int8)
    one = [np.array(0.03, np.float32), np.array(99, np.uint8)]
    columns = [np.abs(noise(5)) / 64, np.zeros(5, np.int8)]
    agrees("QLinearMatMul", [a, *one, b, *columns, np.array(0.5, np.float32), one[1]], step=1.0)
    agrees("MatMulInteger", [a, b, one[1], codes(5, dtype=np.int8)])
    x, w = codes(1, 4, 6, 6), codes(6, 2, 3, 3, dtype=np.int8)
    rows = [np.abs(noise(6)) / 64, np.zeros(6, np.int8)]
    bias = np.arange(6, dtype=np.int32) * 100
    given = [x, *one, w, *rows, np.array(0.5, np.float32), one[1], bias]
    agrees("QLinearConv", given, step=1.0, group=2, pads=[1, 1, 1, 1])
    agrees("ConvInteger", [x, codes(6, 4, 3, 3), one[1]], strides=[2, 2])
    agrees("DynamicQuantizeLinear", [noise(4, 4)], outputs=3, step=1e-6)
