"""Shape inference against the data of every node test that onnx ships, with and without names."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.backend.test.loader import load_model_tests

from addax.errors import InvalidGraphError
from addax.ir.shapes import infer_shapes

FIXTURES = Path(__file__).resolve().parents[2] / "../shared/data/onnx_fixtures/ort"
CONTRADICTORY = {  # 6000 elements, 4000 in the target: the runtime refuses it too
    "reshape_fusion_multiple_values_in_initializer_tensor_1.onnx"
}
NO_GRAPH = {"gpt2_past.onnx"}  # two nodes make one value: onnx_ir does not read it


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_model_tests(kind="node"))


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True], ids=["sizes", "names"])
def test_what_is_said_holds_of_the_data(cases: list[Any], named: bool) -> None:
    wrong, complete, outputs = {}, 0, 0
    for case in cases:
        proto, expected = _stripped(case)
        sizes = _name_sizes(proto) if named else {}
        model = ir.from_proto(proto)
        infer_shapes(model)
        for value in model.graph.outputs:
            array = expected.get(value.name)
            if array is None:
                continue
            dims = [_size(d, sizes) for d in value.shape or ()]
            fits = len(dims) == array.ndim and all(
                d in (None, n) for d, n in zip(dims, array.shape, strict=True)
            )
            if value.shape is not None and not fits:
                wrong[case.name] = f"{value.shape} for {array.shape}"
            if value.dtype is not None and value.dtype.numpy() != array.dtype:
                wrong[case.name] = f"{value.dtype} for {array.dtype}"
            outputs += 1
            complete += value.dtype is not None and value.shape is not None and None not in dims
    assert wrong == {}
    assert complete >= (0.6 if named else 0.8) * outputs


def _stripped(case: Any) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model without a word about its results, and its results."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    del proto.graph.value_info[:]
    expected = {}
    for info, array in zip(proto.graph.output, case.data_sets[0][1], strict=True):
        info.type.ClearField("value")
        if isinstance(array, np.ndarray | np.generic) and array.dtype.kind not in "OUS":
            expected[info.name] = np.asarray(array)
    return proto, expected


def _name_sizes(proto: onnx.ModelProto) -> dict[str, int]:
    """Give every size of an input a name of its own; what the names stand for."""
    sizes = {}
    for info in proto.graph.input:
        for dim in info.type.tensor_type.shape.dim:
            if dim.HasField("dim_value"):
                name = f"size{len(sizes)}"
                sizes[name] = dim.dim_value
                dim.dim_param = name
    return sizes


def _size(dim: int | ir.SymbolicDim, sizes: dict[str, int]) -> int | None:
    if isinstance(dim, int):
        return dim
    known = dim.evaluate(sizes) if dim.value else None
    return known if isinstance(known, int) else None


@pytest.mark.parametrize("kind", ["simple", "pytorch-converted", "pytorch-operator"])
def test_stored_models_keep_their_declared_outputs(kind: str) -> None:
    for case in load_model_tests(kind=kind):
        model = ir.load(Path(case.model_dir) / "model.onnx")
        declared = [(v.dtype, v.shape) for v in model.graph.outputs]
        infer_shapes(model)
        for value, (dtype, shape) in zip(model.graph.outputs, declared, strict=True):
            assert value.dtype == dtype
            assert shape is None or len(value.shape) == len(shape)


@pytest.mark.skipif(not FIXTURES.exists(), reason=f"no data at {FIXTURES}")
def test_fixtures_of_onnx_runtime() -> None:
    refused = set()
    for path in sorted(FIXTURES.rglob("*.onnx")):
        if path.name not in NO_GRAPH:
            model = ir.load(path)
            model.graph.sort()
            try:
                infer_shapes(model)
            except InvalidGraphError:
                refused.add(path.name)
            else:
                assert not infer_shapes(model), path.name
    assert refused == CONTRADICTORY
