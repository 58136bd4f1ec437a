"""Files: whole or not at all, the same bytes always, weights never in memory."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from addax.errors import ModelFileError
from addax.frontend import to_ir
from addax.ir import _saving, _staging, _wire
from addax.ir.diff import structural_diff
from addax.ir.external import MappedTensor
from addax.ir.model import save
from addax.ir.parser import parse_text
from addax.testing.strategies.graphs import models

ROOT = Path(__file__).resolve().parents[2]

TEXT = """
<ir_version: 10, opset_import: ["": 20]>
g (float[4,128] x, bool c) => (float[4,128] y)
<float[128,128] w, float[128] small, int64[2] shape = {4, 128}> {
    k = Constant <value = float[2] {1, 2}> ()
    a = MatMul(x, w)
    b = Add(a, small)
    r = Reshape(b, shape)
    y = If(c) <
        then_branch = first () => (float[4,128] t) <float[128,128] v> { t = MatMul(r, v) },
        else_branch = second () => (float[4,128] e) { e = Neg(r) }
    >
}
"""


def model_with_weights():
    """Large weights in the graph, in a subgraph, and in an attribute."""
    model = to_ir(parse_text(TEXT))
    array = np.linspace(0, 1, 128 * 128, dtype=np.float32).reshape(128, 128)
    node = ir.Node("", "Constant", [], [ir.AttrTensor("value", ir.tensor(array))], num_outputs=1)
    node.outputs[0].name = "constant"
    add = ir.Node("", "MatMul", [model.graph.inputs[0], node.outputs[0]], num_outputs=1)
    add.outputs[0].name = "other"
    model.graph.extend([node, add])
    model.graph.outputs.append(add.outputs[0])
    add.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    return model


def load(path):
    """What onnx itself reads, so that nothing here depends on how addax reads."""
    return ir.from_proto(onnx.load(path))


def run(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((4, 128), np.float32)
    return session.run(None, {"x": x, "c": np.array(True)})


@hypothesis.given(models(max_pieces=4), st.booleans())
@hypothesis.settings(
    max_examples=15, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_what_is_saved_is_what_is_loaded(tmp_path, model, external):
    path = tmp_path / "m.onnx"
    save(model, path, external_data=external)
    onnx.checker.check_model(path)
    assert structural_diff(model, load(path)) is None


@pytest.mark.parametrize("external", [False, True])
def test_large_weights_anywhere_survive_and_run(tmp_path, external):
    model = model_with_weights()
    path = tmp_path / "m.onnx"
    save(model, path, external_data=external)
    assert structural_diff(model, load(path)) is None
    ir.save(model, tmp_path / "plain.onnx")
    for one, other in zip(run(tmp_path / "plain.onnx"), run(path), strict=True):
        np.testing.assert_array_equal(one, other)
    assert path.with_name("m.onnx.data").exists() == external
    if external:
        assert path.stat().st_size < 4096
        assert path.with_name("m.onnx.data").stat().st_size == 3 * 128 * 128 * 4


def test_the_bytes_are_those_of_the_model_without_the_weights_streamed(tmp_path):
    model = model_with_weights()
    save(model, tmp_path / "m.onnx")
    ours, theirs = onnx.load(tmp_path / "m.onnx"), ir.to_proto(model)
    for proto in (ours, theirs):
        entries = sorted(proto.graph.initializer, key=lambda entry: entry.name)
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(entries)
    assert ours == theirs


def test_names_notes_and_annotations_of_streamed_weights_are_kept(tmp_path):
    model = model_with_weights()
    weight = model.graph.initializers["w"]
    weight.metadata_props["origin"] = "here"
    weight.const_value.metadata_props["calibrated"] = "yes"
    weight.meta["quant_parameter_tensor_names"] = {"SCALE_TENSOR": "small"}
    for external in (False, True):
        save(model, tmp_path / "m.onnx", external_data=external)
        loaded = load(tmp_path / "m.onnx").graph.initializers["w"]
        assert loaded.metadata_props == {"origin": "here"}
        assert loaded.const_value.metadata_props == {"calibrated": "yes"}
        assert loaded.meta["quant_parameter_tensor_names"] == {"SCALE_TENSOR": "small"}


def test_tied_weights_lie_in_the_data_file_once(tmp_path):
    model = model_with_weights()
    tied = ir.Tensor(model.graph.initializers["w"].const_value.numpy(), name="tied")
    model.graph.initializers["w"].const_value = ir.Tensor(tied.raw, name="w")
    model.graph.initializers["tied"] = ir.Value(name="tied", const_value=tied)
    save(model, tmp_path / "m.onnx", external_data=True)
    assert (tmp_path / "m.onnx.data").stat().st_size == 3 * 128 * 128 * 4
    loaded = load(tmp_path / "m.onnx").graph.initializers
    np.testing.assert_array_equal(tied.numpy(), loaded["tied"].const_value.numpy())


def test_every_element_type_survives(tmp_path):
    rng = np.random.default_rng(0)
    values = []
    for dtype in ir.DataType:
        if dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING):
            continue
        bits = rng.integers(0, 2, (64, 64))
        tensor = ir.Tensor(bits.astype(dtype.numpy()), dtype, name=dtype.name)
        values.append(ir.Value(name=dtype.name, const_value=tensor))
    text = ir.StringTensor([b"a", b"\xff"], shape=ir.Shape([2]), name="text")
    values += [ir.Value(name="text", const_value=text)]
    values += [ir.Value(name="none", const_value=ir.tensor(np.zeros((0, 3), np.float32)))]
    model = ir.Model(ir.Graph([], [], nodes=[], initializers=values, name="g"), ir_version=10)
    for external in (False, True):
        save(model, tmp_path / "m.onnx", external_data=external)
        loaded = ir.load(tmp_path / "m.onnx").graph.initializers
        for value in values:
            copied = loaded[value.name].const_value
            assert value.const_value.dtype == copied.dtype
            if copied.dtype == ir.DataType.STRING:
                assert list(copied.string_data()) == [b"a", b"\xff"]
            else:
                assert value.const_value.tobytes() == copied.tobytes()


def test_the_model_stays_as_it_is(tmp_path):
    model = model_with_weights()
    tensors = [v.const_value for v in model.graph.initializers.values()]
    tensors[0].name = "its own"
    save(model, tmp_path / "m.onnx", external_data=True)
    save(model, tmp_path / "m.onnx", external_data=False)
    assert all(a is v.const_value for a, v in zip(tensors, model.graph.initializers.values(),
                                                  strict=True))  # fmt: skip
    assert tensors[0].name == "its own"


def test_external_data_begins_where_one_file_ends(tmp_path, monkeypatch):
    model = model_with_weights()
    monkeypatch.setattr(_saving, "INLINE_LIMIT", 3 * 128 * 128 * 4)
    save(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").exists()
    monkeypatch.setattr(_saving, "INLINE_LIMIT", 4 * 128 * 128 * 4)
    save(model, tmp_path / "n.onnx")
    assert not (tmp_path / "n.onnx.data").exists()


HASHING = """
import sys
from addax.ir.model import save
from addax.ir.parser import parse_text
model = parse_text(sys.argv[1])
for flag in (False, True):
    save(model, f"{sys.argv[2]}/m{flag:d}.onnx", external_data=flag)
"""


def test_the_bytes_do_not_depend_on_the_hash_seed(tmp_path):
    found = set()
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", HASHING, TEXT, tmp_path],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        found.add(tuple(path.read_bytes() for path in sorted(tmp_path.iterdir())))
    assert len(found) == 1
    assert len(next(iter(found))) == 3


def failing(error, after=1):
    """A source of chunks that fails once some have come."""
    original, count = _saving.chunks, [0]

    def chunks(tensor):
        count[0] += 1
        if count[0] > after:
            raise error
        return original(tensor)

    return chunks


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, external, error):
    model = model_with_weights()
    save(model, tmp_path / "m.onnx", external_data=external)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model.graph.initializers["w"].const_value = ir.tensor(np.ones((128, 128), np.float32))
    for module in (_saving, _wire):
        monkeypatch.setattr(module, "chunks", failing(error, after=0 if not external else 1))
    expected = ModelFileError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        save(model, tmp_path / "m.onnx", external_data=external)
    if expected is ModelFileError:
        assert "No space left; nothing was changed" in str(caught.value)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("existed", [False, True])
def test_an_interrupt_between_the_two_renames_undoes_the_first(tmp_path, monkeypatch, existed):
    model = model_with_weights()
    if existed:
        save(model, tmp_path / "m.onnx", external_data=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model.graph.initializers["w"].const_value = ir.tensor(np.ones((128, 128), np.float32))
    original = os.replace

    def replace(source, target):
        if str(target).endswith(".onnx"):
            raise KeyboardInterrupt
        original(source, target)

    monkeypatch.setattr(_staging.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save(model, tmp_path / "m.onnx", external_data=True)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_model_is_saved_over_the_file_that_it_is_mapped_from(tmp_path):
    original = model_with_weights()
    path = tmp_path / "m.onnx"
    save(original, path, external_data=True)
    mapped = to_ir(path)
    assert isinstance(mapped.graph.initializers["w"].const_value, MappedTensor)
    mapped.graph.initializers["small"].const_value = ir.tensor(np.ones(128, np.float32))
    mapped.graph.initializers["w"].name = "before_w"  # so that places in the data file move
    for _ in range(2):
        save(mapped, path, external_data=True)
        again = load(path).graph.initializers
        expected = original.graph.initializers["w"].const_value.numpy()
        np.testing.assert_array_equal(expected, again["before_w"].const_value.numpy())
        np.testing.assert_array_equal(
            expected, mapped.graph.initializers["before_w"].const_value.numpy()
        )
    save(mapped, path, external_data=False)
    np.testing.assert_array_equal(
        expected, load(path).graph.initializers["before_w"].const_value.numpy()
    )


def test_tensors_that_read_by_name_say_that_their_file_has_changed(tmp_path):
    path = tmp_path / "m.onnx"
    save(model_with_weights(), path, external_data=True)
    plain = ir.load(path)
    save(plain, tmp_path / "other.onnx", external_data=True)
    assert plain.graph.initializers["w"].const_value.valid()
    save(plain, path, external_data=True)
    assert not plain.graph.initializers["w"].const_value.valid()


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(_staging.os, "link", refuse)
    model = model_with_weights()
    for _ in range(2):
        save(model, tmp_path / "m.onnx", external_data=True)
    assert {"m.onnx", "m.onnx.data"} == {path.name for path in tmp_path.iterdir()}


def test_a_link_is_replaced_and_permissions_stay(tmp_path):
    model = model_with_weights()
    blob = tmp_path / "blob"
    blob.write_bytes(b"someone else's")
    (tmp_path / "m.onnx").symlink_to(blob)
    save(model, tmp_path / "m.onnx")
    assert (blob.read_bytes(), False) == (b"someone else's", (tmp_path / "m.onnx").is_symlink())
    (tmp_path / "m.onnx").chmod(0o640)
    save(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").stat().st_mode & 0o777 == 0o640


def test_a_path_without_a_folder_is_in_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(model_with_weights(), "m.onnx", external_data=True)
    assert {"m.onnx", "m.onnx.data"} == {path.name for path in tmp_path.iterdir()}


def test_paths_that_cannot_be_written(tmp_path, monkeypatch):
    model = model_with_weights()
    with pytest.raises(ModelFileError, match=r"there is no folder .*missing; create it first"):
        save(model, tmp_path / "missing" / "m.onnx")
    with pytest.raises(ModelFileError, match="it is a folder; give the name of a file in it"):
        save(model, tmp_path)

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(_staging, "open", refuse, raising=False)
    with pytest.raises(ModelFileError, match=r"cannot write .*m\.onnx: Permission denied"):
        save(model, tmp_path / "m.onnx")


def test_one_file_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(_wire, "_PROTOBUF_LIMIT", 10_000)
    with pytest.raises(ModelFileError, match="ONNX allows 10000: leave external_data out"):
        save(model_with_weights(), tmp_path / "m.onnx", external_data=False)
    assert not list(tmp_path.iterdir())


def test_an_initializer_needs_data(tmp_path):
    value = ir.Value(name="w")
    graph = ir.Graph([], [], nodes=[], initializers=[value], name="g")
    with pytest.raises(ModelFileError, match="initializer 'w' has no data: give it a const_value"):
        save(ir.Model(graph, ir_version=10), tmp_path / "m.onnx")


MEASURE = """
import resource, sys
from addax.frontend import to_ir
from addax.ir.model import save
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
model = to_ir(sys.argv[1] + "/m.onnx")
print(peak() - before)
for name, flag in (("n", False), ("o", True)):
    save(model, f"{sys.argv[1]}/{name}.onnx", external_data=flag)
    print(peak() - before)
"""


def test_weights_are_never_in_memory(tmp_path):
    """128 MB of mapped weights are loaded and saved within 40 MB more than the imports take."""
    array = np.arange(4 << 22, dtype=np.float32)
    weights = [
        ir.Value(name=f"w{k}", const_value=ir.tensor(part, name=f"w{k}"))
        for k, part in enumerate(np.split(np.concatenate([array, array]), 4))
    ]
    graph = ir.Graph([], weights, nodes=[], initializers=weights, opset_imports={"": 20})
    save(ir.Model(graph, ir_version=10), tmp_path / "m.onnx", external_data=True)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert max(map(int, done.stdout.split())) < 40
    for name in ("n", "o"):
        loaded = load(tmp_path / f"{name}.onnx").graph.initializers
        np.testing.assert_array_equal(weights[3].const_value.numpy(), loaded["w3"].const_value)
