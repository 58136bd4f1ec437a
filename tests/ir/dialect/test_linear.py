"""The linear layers of the dialect against their equations, on packed weights."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.backends.to_ort import to_ort
from addax.ir.dialect import operators
from addax.ir.evaluate import evaluate
from addax.ir.numbers import (
    UNIFORM_4,
    binary_codes,
    encode_codebook,
    group_for,
    pack_binary,
    pack_codebook,
)
from addax.ir.verify import verify
from tests.ir.dialect.packing import (
    grouping,
    pack_codes,
    pack_int8,
    pack_multipliers,
    pack_planes,
)
from tests.ir.dialect.running import linear_bound, model_of, run, session_of

OPS = ("codebook4", "codebook2", "binary1", "binary2", "binary3", "binary4", "int8")
SIZES = st.sampled_from([1, 7, 31, 33, 64, 96, 129, 192])
TYPES = {
    np.float32: ir.DataType.FLOAT,
    np.float16: ir.DataType.FLOAT16,
    np.float64: ir.DataType.DOUBLE,
}


def layer(name, n, k, rng, kind=np.float32, lead=("B",), group=None):
    """A model of one layer, and its weight float64[N, K] by the equation."""
    group = group or grouping(k)
    groups = -(-k // group)
    scale = rng.uniform(0.5, 2.0, n).astype(kind) / kind(64)
    x = (TYPES[kind], [*lead, k])
    column_group = np.arange(k) // group
    if name.startswith("codebook"):
        bits = int(name[-1])
        codes = rng.integers(0, 1 << bits, (n, k), dtype=np.uint8)
        table = rng.integers(-128, 128, 1 << bits).astype(np.int8)
        multipliers = rng.integers(0, 256, (n, groups), dtype=np.uint8)
        scale /= kind(256)
        integers = multipliers.astype(np.int64)[:, column_group] * table[codes]
        inputs = {
            "x": x,
            "codes": pack_codes(codes, bits, group, rng),
            "table": table,
            "multipliers": pack_multipliers(multipliers, rng),
            "scale": scale,
        }
        model = model_of("CodebookMatMul", inputs, bits=bits, group=group)
    elif name.startswith("binary"):
        planes = int(name[-1])
        signs = rng.integers(0, 2, (n, k, planes)).astype(bool)
        multipliers = rng.integers(0, 127 // planes + 1, (n, groups, planes), dtype=np.uint8)
        times = multipliers.astype(np.int64)[:, column_group]
        integers = np.sum(np.where(signs, times, -times), axis=2)
        inputs = {
            "x": x,
            "planes": pack_planes(signs, group, rng),
            "multipliers": pack_multipliers(multipliers, rng),
            "scale": scale,
        }
        model = model_of("BinaryMatMul", inputs, group=group)
    else:
        integers = rng.integers(-128, 128, (n, k)).astype(np.int64)
        packed = pack_int8(integers.astype(np.int8), rng)
        model = model_of("Int8MatMul", {"x": x, "weights": packed, "scale": scale})
    return model, integers * scale.astype(np.float64)[:, None]


@given(
    name=st.sampled_from(OPS),
    n=SIZES,
    k=SIZES,
    lead=st.lists(st.integers(1, 3), max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_layer_is_its_equation(name, n, k, lead, seed):
    rng = np.random.default_rng(seed)
    model, weight = layer(name, n, k, rng, lead="BTU"[: len(lead)])
    x = rng.standard_normal((*lead, k)).astype(np.float32)
    verify(to_ort(model))
    (ran,) = run(model, {"x": x})
    expected = x.astype(np.float64) @ weight.T
    assert np.all(np.abs(ran - expected) <= linear_bound(x, weight, np.float32))


@given(name=st.sampled_from(OPS), n=SIZES, k=SIZES, seed=st.integers(0, 2**32 - 1))
def test_the_judge_runs_the_body(name, n, k, seed):
    rng = np.random.default_rng(seed)
    model, weight = layer(name, n, k, rng)
    x = rng.standard_normal((2, k)).astype(np.float32)
    judged = evaluate(to_ort(model), {"x": x}, precision=np.float64)["y"]
    assert np.all(np.abs(judged - x @ weight.T) <= linear_bound(x, weight, np.float64))


@pytest.mark.parametrize("kind", [np.float16, np.float64])
@pytest.mark.parametrize("name", OPS)
def test_other_types(name, kind):
    rng = np.random.default_rng(0)
    model, weight = layer(name, 33, 129, rng, kind)
    x = rng.standard_normal((3, 129)).astype(kind)
    (ran,) = run(model, {"x": x})
    expected = x.astype(np.float64) @ weight.T
    assert np.all(np.abs(ran - expected) <= linear_bound(x, weight, kind))


@pytest.mark.parametrize("name", OPS)
def test_an_empty_batch(name):
    model, _ = layer(name, 7, 31, np.random.default_rng(0))
    (ran,) = run(model, {"x": np.zeros((0, 31), np.float32)})
    assert ran.shape == (0, 7)


@pytest.mark.parametrize("group", [32, 64, 96, 128])
@pytest.mark.parametrize("name", OPS[:-1])
def test_every_group(name, group):
    rng = np.random.default_rng(0)
    model, weight = layer(name, 65, 200, rng, group=group)
    x = rng.standard_normal((2, 200)).astype(np.float32)
    (ran,) = run(model, {"x": x})
    assert np.all(np.abs(ran - x @ weight.T) <= linear_bound(x, weight, np.float32))


@pytest.mark.parametrize("name", OPS)
def test_weights_are_decoded_when_the_model_is_loaded(name, tmp_path):
    model, _ = layer(name, 65, 96, np.random.default_rng(0))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    options.log_severity_level = 3
    made = ir.to_proto(to_ort(model)).SerializeToString()
    onnxruntime.InferenceSession(made, options, ["CPUExecutionProvider"])
    folded = onnx.load(tmp_path / "folded.onnx")
    assert ["MatMul"] == [node.op_type for node in folded.graph.node]


@pytest.mark.parametrize("opset", [18, 21, 23])
@pytest.mark.parametrize("name", OPS)
def test_bodies_run_at_later_opsets(name, opset):
    rng = np.random.default_rng(0)
    model, weight = layer(name, 33, 40, rng)
    model.opset_imports[""] = opset
    x = rng.standard_normal((2, 40)).astype(np.float32)
    (ran,) = session_of(model, optimize=False).run(None, {"x": x})
    assert np.all(np.abs(ran - x @ weight.T) <= linear_bound(x, weight, np.float32))


def cost_of_layer(name, bind, table=None):
    model, _ = layer(name, 33, 129, np.random.default_rng(0))
    node = model.graph[0]
    if table is not None:
        node.inputs[2].const_value = ir.tensor(np.array(table, np.int8))
    return operators()[node.op_type].cost(node, bind)


def test_what_a_layer_costs():
    cost = cost_of_layer("codebook4", {"B": 5})
    out = 5 * 33
    assert (out * (2 + 1), out * 129, 0) == (cost.multiplies, cost.byte_multiplies, cost.shifts)
    assert (33 * 129, out * 129) == (cost.table_reads, cost.integer_adds)
    cost = cost_of_layer("codebook2", {}, table=[-2, 0, 1, 64])
    assert (33 * (2 + 1), 0, 33 * 129) == (cost.multiplies, cost.byte_multiplies, cost.shifts)
    cost = cost_of_layer("binary3", {"B": 5})
    assert (out * (3 * 2 + 1), out * 3 * 33) == (cost.multiplies, cost.table_reads)
    assert cost.integer_adds == out * 3 * 33 + 16 * 5 * 33
    cost = cost_of_layer("int8", {"B": 5})
    assert (out, out * 129) == (cost.multiplies, cost.byte_multiplies)


def test_a_layer_of_unknown_shape_has_its_type_alone():
    model, _ = layer("int8", 3, 4, np.random.default_rng(0))
    node = model.graph[0]
    node.inputs[0].shape = None
    node.outputs[0].shape = None
    operators()["Int8MatMul"].shape(node)
    assert (ir.DataType.FLOAT, None) == (node.outputs[0].dtype, node.outputs[0].shape)


@settings(max_examples=15)
@given(
    planes=st.integers(0, 4),
    n=st.sampled_from([1, 33, 65]),
    k=st.sampled_from([31, 96, 129]),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_fitted_and_packed_is_what_a_layer_multiplies_by(planes, n, k, seed):
    w = np.random.default_rng(seed).standard_normal((n, k))
    group = group_for(k)
    if planes:
        fitted = binary_codes(w, planes, group, rounds=1).factorized()
        made = pack_binary(fitted)
        weights = {"planes": made.planes, "multipliers": made.multipliers}
    else:
        fitted = encode_codebook(w, UNIFORM_4, group).factorized()
        made = pack_codebook(fitted)
        weights = {"codes": made.codes, "table": made.table, "multipliers": made.multipliers}
    inputs = {"x": (ir.DataType.FLOAT, ["B", k]), **weights, "scale": made.scale}
    bits = {} if planes else {"bits": 4}
    name = "BinaryMatMul" if planes else "CodebookMatMul"
    (ran,) = run(model_of(name, inputs, group=group, **bits), {"x": np.eye(k, dtype=np.float32)})
    assert (ran.T == fitted.decode().astype(np.float32)).all()
