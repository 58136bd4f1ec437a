"""Weights in files: what is mapped, and what is refused."""

import os

import numpy as np
import onnx_ir as ir
import pytest

from addax.errors import ModelFileError
from addax.ir import external
from addax.ir.external import DataFile, Folder, Folders, MappedTensor, chunks

WORDS = np.arange(24, dtype=np.float32)


@pytest.fixture
def folder(tmp_path):
    WORDS.tofile(tmp_path / "w.data")
    return tmp_path


def declared(location="w.data", offset=0, length=None, shape=(24,), dtype=ir.DataType.FLOAT, **kw):
    return ir.ExternalTensor(location, offset, length, dtype, shape=ir.Shape(shape), name="w", **kw)


def test_an_array_is_a_read_only_view_of_its_range(folder):
    tensor = Folder(str(folder)).open(declared(offset=16, length=32, shape=(2, 4)))
    np.testing.assert_array_equal(WORDS[4:12].reshape(2, 4), tensor.numpy())
    np.testing.assert_array_equal(WORDS[4:12].reshape(2, 4), np.asarray(tensor))
    assert not tensor.numpy().flags.writeable
    assert tensor.numpy() is tensor.numpy()
    assert WORDS[4:12].tobytes() == tensor.tobytes() == b"".join(tensor.chunks())


def test_elements_of_less_than_a_byte_are_unpacked(folder):
    (folder / "w.data").write_bytes(b"\x21\x03")
    tensor = Folder(str(folder)).open(declared(shape=(3,), dtype=ir.DataType.UINT4))
    assert tensor.numpy().tolist() == [1, 2, 3]


def test_an_empty_tensor_may_lie_in_an_empty_file(folder):
    (folder / "w.data").write_bytes(b"")
    tensor = Folder(str(folder)).open(declared(shape=(0, 3)))
    assert tensor.numpy().shape == (0, 3)
    assert list(tensor.chunks()) == []


def test_a_tensor_reads_the_file_that_was_there(folder):
    tensor = Folder(str(folder)).open(declared())
    (folder / "new").write_bytes(bytes(96))
    os.replace(folder / "new", folder / "w.data")
    np.testing.assert_array_equal(WORDS, tensor.numpy())
    tensor.tofile(out := (folder / "out").open("wb"))
    out.close()
    np.testing.assert_array_equal(WORDS, np.fromfile(folder / "out", np.float32))


def test_one_mapping_for_each_file(folder):
    opener = Folder(str(folder))
    first, second = opener.open(declared(shape=(2,))), opener.open(declared(offset=8, shape=(3,)))
    assert first.file is second.file


def test_pieces_join_to_the_whole_whatever_their_size(folder, monkeypatch):
    data = np.random.default_rng(0).integers(0, 256, 50_000, np.uint8).tobytes()
    (folder / "w.data").write_bytes(data)
    monkeypatch.setattr(external, "_CHUNK", 8192)
    file = DataFile(str(folder / "w.data"))
    for start, length in ((0, 50_000), (1, 4095), (4097, 20_000), (49_999, 1), (5, 0)):
        pieces = [bytes(piece) for piece in file.chunks(start, length)]
        assert data[start : start + length] == b"".join(pieces)
        assert max(map(len, pieces), default=0) <= 8192


@pytest.mark.parametrize("dtype", ["FLOAT", "BFLOAT16", "INT4", "BOOL", "FLOAT8E5M2", "DOUBLE"])
def test_chunks_are_the_bytes_that_onnx_stores(dtype):
    element = ir.DataType[dtype]
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(element.numpy())
    for arranged in (array, array.T, array[::-1], array[:0]):
        tensor = ir.Tensor(arranged, element)
        assert tensor.tobytes() == b"".join(map(bytes, chunks(tensor)))


@pytest.mark.parametrize(
    "location", ["", "/etc/hostname", "../w.data", "a/../../w.data", "a\\..\\w.data", "w\0.data"]
)
def test_a_location_that_may_lead_elsewhere_is_refused(folder, location):
    with pytest.raises(ModelFileError, match="expected a path inside the model's folder"):
        Folder(str(folder / "sub")).open(declared(location))


def test_a_link_out_of_the_folder_is_refused(folder):
    (folder / "model").mkdir()
    (folder / "model" / "w.data").symlink_to(folder / "w.data")
    with pytest.raises(ModelFileError, match="a link out of the model's folder"):
        Folder(str(folder / "model")).open(declared())
    (folder / "linked").symlink_to(folder)
    with pytest.raises(ModelFileError, match="a link out of the model's folder"):
        Folder(str(folder / "model")).open(declared("../linked/w.data".replace("../", "w.data/")))


def test_a_link_within_the_folder_or_to_where_the_model_is_may_be_followed(folder):
    (folder / "inside").symlink_to(folder / "w.data")
    assert isinstance(Folder(str(folder)).open(declared("inside")), MappedTensor)
    (folder / "model").mkdir()
    (folder / "model" / "w.data").symlink_to(folder / "w.data")
    opened = Folder(str(folder / "model"), os.path.realpath(folder)).open(declared())
    np.testing.assert_array_equal(WORDS, opened.numpy())


def test_a_file_that_is_missing_or_no_file(folder):
    with pytest.raises(ModelFileError, match=r"tensor 'w' keeps its data in 'v\.data', and .* "
                                             "does not exist: put the file there"):  # fmt: skip
        Folder(str(folder)).open(declared("v.data"))
    (folder / "sub").mkdir()
    with pytest.raises(ModelFileError, match="which is not a file"):
        Folder(str(folder)).open(declared("sub"))
    with pytest.raises(ModelFileError, match="cannot be read: "):
        Folder(str(folder)).open(declared("w.data/inner"))


def test_declarations_that_the_file_does_not_hold(folder):
    opener = Folder(str(folder))
    with pytest.raises(ModelFileError, match=r"needs bytes 16 to 112 of .*, which has only 96: the "
                                             "file is truncated"):  # fmt: skip
        opener.open(declared(offset=16))
    with pytest.raises(ModelFileError, match=r"FLOAT and shape \[24\] needs 96 bytes, but its "
                                             "length in .* is given as 92"):  # fmt: skip
        opener.open(declared(length=92))
    with pytest.raises(ModelFileError, match=r"has a negative dimension: \[-2, -12\]"):
        opener.open(declared(shape=(-2, -12)))
    with pytest.raises(ModelFileError, match="which has only 96"):
        opener.open(declared(shape=(1 << 40, 1 << 40)))
    with pytest.raises(ModelFileError, match="of type STRING cannot lie in an external file"):
        opener.open(declared(dtype=ir.DataType.STRING))


def test_tensors_built_in_memory_lie_where_their_builder_says(folder):
    opener = Folders()
    named = opener.open(declared(base_dir=str(folder)))
    free = opener.open(declared(str(folder / "w.data")))
    np.testing.assert_array_equal(named.numpy(), free.numpy())
    with pytest.raises(ModelFileError, match="expected a path inside the model's folder"):
        opener.open(declared("../w.data", base_dir=str(folder / "sub")))
    with pytest.raises(ModelFileError, match="does not exist: put the file there"):
        opener.open(declared(str(folder / "missing")))
    with pytest.raises(ModelFileError, match="which has only 96"):
        opener.open(declared(str(folder / "w.data"), offset=4))
