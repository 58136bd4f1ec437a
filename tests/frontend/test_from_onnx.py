"""Every form of ONNX in, one graph out; everything else is refused in words."""

import contextlib
import gc
import logging
import os

import hypothesis
import hypothesis.strategies as st
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from addax.errors import AddaxError, ModelFileError
from addax.frontend import _proto
from addax.frontend.from_onnx import from_onnx
from addax.ir.diff import structural_diff
from addax.ir.external import MappedTensor
from addax.ir.model import save
from addax.ir.verify import verify
from addax.testing.strategies.graphs import models

TEXT = """
<ir_version: 10, opset_import: ["": 20]>
g (float[2,3] x) => (float[2,4] y) <float[3,4] w = {0,1,2,3,4,5,6,7,8,9,10,11}> {
    a = MatMul(x, w)
    y = Relu(a)
}
"""


def proto(text=TEXT):
    return onnx.parser.parse_model(text)


@pytest.fixture
def path(tmp_path):
    onnx.save(proto(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def external(tmp_path):
    """A model with its weight in another file."""
    model = from_onnx(proto())
    array = np.arange(3 * 400, dtype=np.float32).reshape(3, 400)
    model.graph.initializers["w"].const_value = ir.tensor(array, name="w")
    model.graph.initializers["w"].shape = ir.Shape((3, 400))
    for value in (model.graph[0].outputs[0], *model.graph.outputs):
        value.shape = None
    save(model, tmp_path / "m.onnx", external_data=True)
    return tmp_path / "m.onnx"


def changed(edit):
    """The model with an edit of its message."""
    message = proto()
    edit(message)
    return message


# What is read


def test_every_form_gives_the_same_graph(path):
    expected = from_onnx(path)
    verify(expected)
    data = path.read_bytes()
    for source in (str(path), data, bytearray(data), memoryview(data), proto(), ir.load(path)):
        assert structural_diff(expected, from_onnx(source)) is None


@hypothesis.given(models(max_pieces=3))
def test_a_source_is_never_changed_nor_held(model):
    message = ir.to_proto(model)
    before = message.SerializeToString(deterministic=True)
    for read in (from_onnx(message), from_onnx(model)):
        for scope in (read.graph, *read.graph.subgraphs()):
            for value in tuple(scope.initializers.values()):
                value.name = f"{value.name}_renamed"
            for node in scope:
                node.op_type = "Changed"
    assert before == message.SerializeToString(deterministic=True)
    assert before == ir.to_proto(model).SerializeToString(deterministic=True)


def test_weights_are_decoded_and_do_not_hang_on_the_message():
    message = proto()
    model = from_onnx(message)
    message.graph.initializer[0].float_data[0] = 99
    tensor = model.graph.initializers["w"].const_value
    assert tensor.numpy() is tensor.numpy()
    assert 0 == tensor.numpy()[0, 0]


def test_weights_in_other_files_stay_there(external):
    tensor = from_onnx(external).graph.initializers["w"].const_value
    assert isinstance(tensor, MappedTensor)
    np.testing.assert_array_equal(np.arange(1200).reshape(3, 400), tensor.numpy())
    plain = ir.load(external)
    assert isinstance(from_onnx(plain).graph.initializers["w"].const_value, MappedTensor)
    assert not isinstance(plain.graph.initializers["w"].const_value, MappedTensor)


def test_a_download_cache_of_links_is_read(external, tmp_path):
    (tmp_path / "snapshot").mkdir()
    for name in ("m.onnx", "m.onnx.data"):
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / name)
    assert from_onnx(tmp_path / "snapshot" / "m.onnx").graph.initializers["w"].shape == (3, 400)


def test_an_unsorted_graph_is_sorted_with_a_line_in_the_log(caplog):
    message = changed(lambda m: m.graph.node.reverse())
    model = from_onnx(message)
    assert ["MatMul", "Relu"] == [node.op_type for node in model.graph]
    assert "the graph was not sorted: Relu '' came before what it reads" in caplog.text
    verify(model)


def test_a_body_that_reads_what_comes_later_is_sorted_too():
    model = from_onnx(
        proto("""
        <ir_version: 10, opset_import: ["": 20]>
        g (float[2] x, bool c) => (float[2] y) {
            y = If(c) <then_branch = t () => (float[2] u) { u = Neg(a) },
                       else_branch = e () => (float[2] v) { v = Abs(a) }>
            a = Exp(x)
        }""")
    )
    assert ["Exp", "If"] == [node.op_type for node in model.graph]
    verify(model)


def test_custom_operators_stay_as_they_are(caplog):
    caplog.set_level(logging.INFO)
    text = TEXT.replace("Relu(a)", 'com.example.Magic <strength = 3> (a, "")').replace(', ""', "")
    model = from_onnx(proto(text))
    node = model.graph[1]
    assert ("com.example", "Magic", 3) == (
        node.domain, node.op_type, node.attributes["strength"].value
    )  # fmt: skip
    assert 1 == model.opset_imports["com.example"]
    assert "does not import 'com.example'" in caplog.text


def test_operators_of_the_runtime_in_the_standard_domain_are_known():
    text = TEXT.replace("Relu(a)", "SimplifiedLayerNormalization(a, a)")
    assert "SimplifiedLayerNormalization" == from_onnx(proto(text)).graph[1].op_type


def test_the_other_name_of_the_standard_domain():
    model = from_onnx(proto(TEXT.replace('"": 20', '"ai.onnx": 20')))
    assert {"": 20} == model.opset_imports


def test_a_model_without_standard_operators_gets_their_import():
    text = "g (float[2] x) => (float[2] y) { y = own.Op(x) }"
    model = from_onnx(proto(f'<ir_version: 10, opset_import: ["own": 3]> {text}'))
    assert {"own": 3, "": 20} == model.opset_imports


def test_initializers_of_old_versions_are_constant(caplog):
    caplog.set_level(logging.INFO)

    def age(message):
        message.ir_version = 3
        info = helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4])
        message.graph.input.append(info)

    model = from_onnx(changed(age))
    assert ["x"] == [value.name for value in model.graph.inputs]
    assert not model.graph.initializers["w"].is_graph_input()
    assert model.ir_version >= 4
    assert "initializers of IR version 3 are no longer inputs" in caplog.text
    kept = from_onnx(changed(lambda m: (age(m), setattr(m, "ir_version", 8))))
    assert ["x", "w"] == [value.name for value in kept.graph.inputs]


def test_constants_given_twice_are_what_onnx_runtime_takes(caplog):
    text = """<ir_version: 10, opset_import: ["": 20]> g (float x) => (float y) {
        k = Constant <value = float {1}> ()
        y = Add(x, k)
        k = Constant <value = float {2}> ()
    }"""
    message = proto(text)
    model = from_onnx(message)
    constants = [node for node in model.graph if node.op_type == "Constant"]
    assert [2.0] == [node.attributes["value"].value.numpy() for node in constants]
    assert "constants ['k'] are given twice; the last one counts" in caplog.text
    assert 3 == len(message.graph.node)


def test_an_initializer_given_twice_is_told(caplog):
    extra = helper.make_tensor("w", TensorProto.FLOAT, [3, 4], [5.0] * 12)
    model = from_onnx(changed(lambda m: m.graph.initializer.append(extra)))
    assert 5 == model.graph.initializers["w"].const_value.numpy()[0, 0]
    assert "initializer 'w' is given twice; the last one counts" in caplog.text


def test_a_graph_gets_a_name():
    assert "main" == from_onnx(changed(lambda m: m.graph.ClearField("name"))).graph.name


def test_the_collector_is_left_as_it_was(path):
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            from_onnx(path)
            with pytest.raises(ModelFileError):
                from_onnx(b"")
            assert gc.isenabled() == enabled
        finally:
            gc.enable()
    gc.freeze()
    frozen = gc.get_freeze_count()
    try:
        from_onnx(path)
        assert frozen == gc.get_freeze_count()
    finally:
        gc.unfreeze()


# What is refused: files


def test_a_missing_file_and_its_neighbour(path):
    with pytest.raises(ModelFileError, match=r"there is no file .*n\.onnx; did you mean .*m\.onnx"):
        from_onnx(path.with_name("n.onnx"))
    with pytest.raises(ModelFileError, match=r"its folder .*missing does not exist either"):
        from_onnx(path.parent / "missing" / "m.onnx")


def test_a_folder(path):
    with pytest.raises(ModelFileError, match=r"is a folder; pass the path of the \.onnx file"):
        from_onnx(path.parent)


def test_a_file_that_cannot_be_read(path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_proto, "open", refuse, raising=False)
    with pytest.raises(ModelFileError, match=r"cannot read .*m\.onnx: Permission denied"):
        from_onnx(path)


def test_a_file_larger_than_the_format_allows(path, monkeypatch):
    monkeypatch.setattr(_proto, "_PROTOBUF_LIMIT", 10)
    with pytest.raises(ModelFileError, match="save the model with its weights as external data"):
        from_onnx(path)


@pytest.mark.parametrize(
    ("data", "meaning"),
    [
        (b"", "is empty; expected an ONNX model"),
        (b"PK\x03\x04rest", "a zip archive, as torch.save writes: load it with torch"),
        (b"\x80\x02}q\x00", "a pickle: load it with torch"),
        (b"\x1f\x8b\x08\x00", "compressed: unpack it first"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (b"<!DOCTYPE html>", "a web page or XML, so the download went wrong"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"GGUF\x03", "a GGUF file"),
        (b"\x1c\0\0\0TFL3\0", "a TensorFlow Lite model"),
        (b"\x1c\0\0\0ORTM\0", "a model in ORT format"),
        (b'\x04\0\0\0\0\0\0\0{"a":1}    ', "a safetensors file, which holds weights"),
        (b"just some words\n", "text, beginning with 'just some words"),
        (b"\xff" * 64, "truncated, damaged, or something else"),
    ],
)
def test_bytes_of_something_else(data, meaning):
    with pytest.raises(ModelFileError) as caught:
        from_onnx(data)
    assert meaning in str(caught.value)


def test_a_message_that_ends_too_early():
    with pytest.raises(ModelFileError, match="the given data holds no graph"):
        from_onnx(onnx.ModelProto(ir_version=10).SerializeToString())


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=200)
def test_damage_never_gives_another_kind_of_error(data):
    whole = proto().SerializeToString()
    cut = data.draw(st.integers(0, len(whole)))
    damaged = bytearray(whole[:cut] if data.draw(st.booleans()) else whole)
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(AddaxError):
        from_onnx(damaged)


# What is refused: external data


def test_external_data_that_is_missing_short_or_elsewhere(external):
    data = external.with_name("m.onnx.data")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match=r"tensor 'w' needs bytes 0 to 4800 .* only 4799"):
        from_onnx(external)
    data.unlink()
    with pytest.raises(ModelFileError, match=r"'m\.onnx\.data', and .* does not exist"):
        from_onnx(external)
    secret = external.parent.parent / f"{external.parent.name}-secret"
    secret.write_bytes(bytes(4800))
    os.symlink(secret, data)
    with pytest.raises(ModelFileError, match="a link out of the model's folder"):
        from_onnx(external)
    secret.unlink()


def test_external_data_without_a_folder(external):
    with pytest.raises(ModelFileError, match="bytes and messages have no folder: pass the model's"):
        from_onnx(external.read_bytes())
