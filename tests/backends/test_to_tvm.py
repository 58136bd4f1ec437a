"""Whole models as machine code by TVM agree with ONNX Runtime, and say what they do not take."""

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

import addax
from addax.backends.to_ort import to_ort
from addax.backends.to_tvm import require_tvm, to_tvm, tuning_time
from addax.errors import (
    EvaluationError,
    InputError,
    MissingPackageError,
    ModelFileError,
    OptionError,
    UnsupportedOpError,
)
from addax.ir.equivalence import draw_feeds
from addax.ir.parser import parse_text
from addax.ir.tolerance import bounds, judged
from addax.runtime.session import Session
from addax.runtime.tvm_session import TvmSession
from addax.testing.cases import draw, read_cases
from addax.testing.strategies.arrays import Kind
from tests.ir.dialect.packing import pack_codes, pack_multipliers
from tests.ir.dialect.running import model_of
from tests.ir.test_evaluate_models import DATA, deit, inputs, llama, mobilenet, resnet

pytest.importorskip("tvm")

CASES = read_cases(Path(__file__).parents[1] / "passes" / "cases")

# A block of a transformer: 19 tokens and 29 columns leave tiles of every kind unfilled.
TRANSFORMER = """<ir_version: 10, opset_import: ["": 18]>
g (float[N,19,24] x) => (float[N,19,24] y)
<float[24,24] wq, float[24,24] wk, float[24,24] wv, float[24,29] w1, float[29] b1, float[29,24] w2,
 float[24] gamma, float[24] beta, int64[4] split = {0, 19, 2, 12}, int64[3] join = {0, 19, 24},
 float half = {0.5}, float root = {1.4142135}, float one = {1}> {
    n = LayerNormalization(x, gamma, beta)
    q0 = MatMul(n, wq)
    k0 = MatMul(n, wk)
    v0 = MatMul(n, wv)
    q1 = Reshape(q0, split)
    k1 = Reshape(k0, split)
    v1 = Reshape(v0, split)
    q = Transpose<perm = [0, 2, 1, 3]>(q1)
    k = Transpose<perm = [0, 2, 3, 1]>(k1)
    v = Transpose<perm = [0, 2, 1, 3]>(v1)
    s = MatMul(q, k)
    p = Softmax(s)
    a = MatMul(p, v)
    t = Transpose<perm = [0, 2, 1, 3]>(a)
    o = Reshape(t, join)
    r = Add(x, o)
    h = MatMul(r, w1)
    hb = Add(h, b1)
    hs = Div(hb, root)
    he = Erf(hs)
    h1 = Add(he, one)
    hm = Mul(hb, h1)
    g = Mul(hm, half)
    f = MatMul(g, w2)
    y = Add(r, f)
}"""

CNN = """<ir_version: 10, opset_import: ["": 18]>
g (float[2,3,17,17] x) => (float[2,5] y)
<float[12,3,3,3] w1, float[12] b1, float[12,1,3,3] w2, float[20,12,1,1] w3, float[20,5] w4> {
    a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
    b = Relu(a)
    c = Conv<group = 12, pads = [1, 1, 1, 1], strides = [2, 2]>(b, w2)
    d = Conv(c, w3)
    e = Relu(d)
    p = GlobalAveragePool(e)
    f = Flatten(p)
    y = MatMul(f, w4)
}"""

BRANCHES = """<ir_version: 10, opset_import: ["": 18, "own": 1]>
g (float[3] x, bool c) => (float[3] y, int64[1] size) {
    k = Constant<value_ints = [1, 2, 3]>()
    f = Cast<to = 1>(k)
    t = own.twice(x)
    y = If(c) <
        then_branch = g1 () => (float[3] u) { u = Add(t, f) },
        else_branch = g2 () => (float[3] w) { w = Sub(t, f) }
    >
    size = Shape(x)
}
<domain: "own", opset_import: ["": 18]>
twice (a) => (b) { b = Add(a, a) }"""


def require_agreement(model: ir.Model, session: TvmSession, feeds) -> None:
    """Both runtimes are within rounding of the exact result, for every element of every output."""
    require_exact(model, Session(to_ort(model)).run, feeds)
    require_exact(model, session.run, feeds)


def require_exact(model: ir.Model, run, feeds) -> None:
    known = bounds(to_ort(model), feeds)
    exact = {name: value for name, (value, _) in known.items()}
    allowed = {name: error for name, (_, error) in known.items()}
    assert judged(exact, run(feeds), allowed).disagreement is None


def feeds_of(session: TvmSession, batch: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        slot.name: generator.standard_normal(
            [size if isinstance(size, int) else batch for size in slot.shape]
        ).astype(slot.dtype)
        for slot in session.library.interface.inputs
    }


@pytest.fixture(scope="module")
def transformer():
    model = draw(TRANSFORMER, Kind.PLAIN)
    return model, TvmSession(to_tvm(model))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_transformer_runs_for_any_batch(transformer, batch):
    model, session = transformer
    require_agreement(model, session, feeds_of(session, batch))


def test_a_transformer_of_fixed_sizes(transformer):
    model, _ = transformer
    session = TvmSession(to_tvm(model, sizes={"x": (2, 19, 24)}))
    assert (2, 19, 24) == session.inputs[0].shape
    require_agreement(model, session, feeds_of(session))


def test_a_network_of_convolutions_is_saved_and_loaded(tmp_path):
    model = draw(CNN, Kind.PLAIN)
    session = TvmSession(to_tvm(model))
    feeds = feeds_of(session)
    require_agreement(model, session, feeds)
    path = tmp_path / "model.so"
    session.library.save(path)
    again = TvmSession.load(path)
    assert (session.inputs, session.outputs) == (again.inputs, again.outputs)
    np.testing.assert_array_equal(session.run(feeds)["y"], again.run(feeds)["y"])
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("condition", [True, False])
def test_branches_functions_and_lists_of_integers(condition):
    model = parse_text(BRANCHES)
    session = TvmSession(to_tvm(model))
    feeds = {"x": np.array([1, 2, 4], np.float32), "c": np.array(condition)}
    require_agreement(model, session, feeds)


def test_nodes_of_the_dialect_run_through_their_bodies():
    rng = np.random.default_rng(0)
    inputs = {
        "x": (ir.DataType.FLOAT, ["B", 40]),
        "codes": pack_codes(rng.integers(0, 16, (5, 40)), 4, 64, rng),
        "table": rng.integers(-100, 100, 16).astype(np.int8),
        "multipliers": pack_multipliers(np.ones((5, 1), np.uint8), rng),
        "scale": rng.standard_normal(5).astype(np.float32),
    }
    model = model_of("CodebookMatMul", inputs, opset=20, bits=4, group=64)
    session = TvmSession(to_tvm(model))
    require_agreement(model, session, feeds_of(session, batch=3))


def test_an_index_out_of_range_reads_nothing_foreign():
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (int64[1] i) => (float[1,2] y) <float[3,2] table> { y = Gather(table, i) }"""
    session = TvmSession(to_tvm(draw(text)))
    last = session.run({"i": np.array([2])})["y"]
    np.testing.assert_array_equal(last, session.run({"i": np.array([10**9])})["y"])


def test_tuning_stops_in_time_and_changes_no_result():
    model = draw(CNN, Kind.PLAIN)
    told: list[str] = []
    session = TvmSession(to_tvm(model, tune=2, say=told.append))
    require_agreement(model, session, feeds_of(session))
    assert any("tuning" in line for line in told)


def test_what_has_no_converter_is_listed():
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (float[2,2] x) => (float z, float[2,2] w) {
        z = Det(x)
        w = Bernoulli(x)
    }"""
    with pytest.raises(UnsupportedOpError, match=r"2 nodes have no converter to TVM.*:\n  Det"):
        to_tvm(parse_text(text))


def test_a_converter_that_fails_names_the_node():
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (float[2,3] x, int64[2] s) => (float[M,K] y) { y = Resize<mode = "cubic">(x, , , s) }"""
    with pytest.raises(UnsupportedOpError, match="TVM's converter of Resize fails at Resize"):
        to_tvm(parse_text(text))


def test_an_output_that_the_converter_leaves_out_is_refused():
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (float[2,3] x) => (float[2,3] y, float[2,1] mean) <float[3] s> {
        y, mean = LayerNormalization(x, s)
    }"""
    with pytest.raises(UnsupportedOpError, match="LayerNormalization does not compute output 'mea"):
        to_tvm(draw(text))


def test_lowering_that_fails_is_told():
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (float[A] x, float[B] y) => (float[A] z) { z = Add(x, y) }"""
    with pytest.raises(UnsupportedOpError, match="TVM cannot compile this model: InternalError"):
        to_tvm(parse_text(text))


def test_a_run_that_fails_is_told(transformer, monkeypatch):
    session = TvmSession(transformer[1].library)
    feeds = feeds_of(session)

    def fail(self: Any, arrays: Any) -> Any:
        raise RuntimeError("first line\nstd::bad_alloc")

    monkeypatch.setattr(type(session.library), "__call__", fail)
    with pytest.raises(InputError, match=r"got x: float32\[1, 19, 24\]; TVM says: std::bad_alloc"):
        session.run(feeds)


def test_text_is_refused():
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (float[1] x) => (float[1] y, string[1] s) <string[1] t = {"a"}> {
        y = Neg(x)
        s = Identity(t)
    }"""
    with pytest.raises(UnsupportedOpError, match="constant 't' holds strings"):
        to_tvm(parse_text(text))


def test_an_unknown_rank_is_refused():
    model = parse_text("""<opset_import: ["": 18]> g (float[2] x) => (float[2] y) {y = Neg(x)}""")
    model.graph.inputs[0].shape = None
    with pytest.raises(UnsupportedOpError, match="rank of every input, but that of 'x' is unknown"):
        to_tvm(model)


def test_feeds_that_do_not_fit_never_reach_the_code(transformer):
    _, session = transformer
    with pytest.raises(InputError, match=r"expected feeds for \['x'\], got \[\]: missing \['x'\]"):
        session.run({})
    for wrong in (np.zeros((1, 19, 24)), np.zeros((1, 18, 24), np.float32)):
        with pytest.raises(InputError, match=r"input 'x': expected float32\['N', 19, 24\]"):
            session.run({"x": wrong})


def test_files_that_are_no_library_are_refused(tmp_path, transformer):
    with pytest.raises(ModelFileError, match="no such file"):
        TvmSession.load(tmp_path / "none.so")
    (tmp_path / "text.so").write_text("no machine code")
    with pytest.raises(ModelFileError, match="expected a library that addax saved"):
        TvmSession.load(tmp_path / "text.so")
    with pytest.raises(ModelFileError, match="cannot write the library"):
        transformer[1].library.save(tmp_path / "no folder" / "model.so")


def test_a_compiler_that_fails_is_told(tmp_path, transformer, monkeypatch):
    monkeypatch.setenv("CC", "false")
    with pytest.raises(ModelFileError, match="false failed"):
        transformer[1].library.save(tmp_path / "model.so")
    assert [] == list(tmp_path.iterdir())


def test_versions_of_tvm_that_crash_are_refused(monkeypatch):
    monkeypatch.setattr("addax.backends.to_tvm.version", lambda _: "0.1.15.post2")
    with pytest.raises(MissingPackageError, match=r'pip install "apache-tvm-ffi<0\.1\.15"'):
        require_tvm()


def test_a_missing_tvm_is_told(monkeypatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("addax.backends.to_tvm.version", missing)
    with pytest.raises(
        MissingPackageError, match=r"TVM is not installed; pip install addax\[tvm\]"
    ):
        to_tvm(parse_text(BRANCHES))


def test_the_time_of_tuning_is_read_from_the_target():
    assert [0, 60, 2.5] == [tuning_time(t) for t in ("tvm", "tvm{tune=60}", "tvm{ tune = 2.5 }")]
    with pytest.raises(OptionError, match=r'expected "tvm" or "tvm\{tune=SECONDS}"'):
        tuning_time("tvm{tune=long}")


def test_optimize_compiles_and_saves(tmp_path):
    """`optimize(target="tvm")` runs, saves a library, and plain ONNX under its own suffix."""
    fast = addax.optimize(to_ort(draw(CNN, Kind.PLAIN)), target="tvm")
    feeds = feeds_of(fast.session)
    np.testing.assert_array_equal(fast.session.run(feeds)["y"], fast(feeds["x"]))
    fast.save(tmp_path / "model.so")
    fast.save(tmp_path / "model.onnx")
    assert fast.session.inputs == TvmSession.load(tmp_path / "model.so").inputs
    assert ["y"] == list(addax.load(tmp_path / "model.onnx").run(feeds))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES[::20], ids=str)
def test_what_compiles_is_right(case):
    """Graphs of every kind: those that rules are tested on."""
    model = to_ort(draw(case.text, Kind.PLAIN))
    try:
        feeds = draw_feeds(model)
        bounds(model, feeds)
        session = TvmSession(to_tvm(model))
    except (EvaluationError, UnsupportedOpError) as error:
        pytest.skip(str(error).partition("\n")[0])
    require_exact(model, session.run, feeds)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason=f"no data at {DATA}")
@pytest.mark.parametrize("load", [deit, resnet, mobilenet, llama])
@pytest.mark.parametrize("batch", [None, 2])
def test_trained_networks(load, batch):
    """With fixed sizes, and for any batch."""
    net, words, shape = load()
    example = inputs(words, shape if batch is None else (batch, *shape[1:]))
    dynamic = None if batch is None else ({0: torch.export.Dim("N")},)
    made = addax.optimize(net.eval(), torch.from_numpy(example), dynamic_shapes=dynamic)
    (expected,) = made.session.run({made.session.inputs[0].name: example}).values()
    session = TvmSession(to_tvm(made.model))
    (actual,) = session.run({session.inputs[0].name: example}).values()
    assert float(np.abs(expected - actual).max()) <= 1e-5 * float(np.abs(expected).max())
