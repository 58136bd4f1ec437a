"""The judge against the tests that onnx ships: every node test, and its stored models."""

import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from addax.errors import UnsupportedOpError
from addax.ir.evaluate import Judge

RANDOM = {
    "test_bernoulli",
    "test_bernoulli_double",
    "test_bernoulli_double_expanded",
    "test_bernoulli_expanded",
    "test_bernoulli_seed",
    "test_bernoulli_seed_expanded",
    "test_training_dropout",
    "test_training_dropout_default",
    "test_training_dropout_default_mask",
    "test_training_dropout_mask",
}
UNKNOWN = {"test_gradient_of_add", "test_gradient_of_add_and_mul"}  # training, no inference op
MODEL_TYPES_ONLY = {  # the reference runs their subgraph, and does so in the model's own types
    "test_flexattention_causal_mask",
    "test_flexattention_prob_mod",
    "test_flexattention_relative_positional",
    "test_flexattention_score_mod",
    "test_flexattention_soft_cap",
}
TIES = {  # 25.5 in float64 is 25.500002 in float32: the code is another one
    "test_dynamicquantizelinear",
    "test_dynamicquantizelinear_expanded",
}


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_model_tests(kind="node"))


@pytest.mark.parametrize("precision", [None, np.float64])
def test_node_tests(cases, precision):
    assert len(cases) > 1000
    wrong = {}
    for case in cases:
        unsupported = case.name in RANDOM or (precision and case.name in MODEL_TYPES_ONLY)
        try:
            for inputs, outputs in case.data_sets:
                _check(ir.from_proto(case.model), inputs, outputs, precision, case)
            if unsupported:
                wrong[case.name] = "should be refused"
        except UnsupportedOpError as error:
            if not unsupported:
                wrong[case.name] = error
        except Exception as error:
            if not (precision and case.name in TIES):
                wrong[case.name] = error
    assert wrong == {}


@pytest.mark.parametrize("precision", [None, np.float64])
@pytest.mark.parametrize("kind", ["simple", "pytorch-converted", "pytorch-operator"])
def test_stored_models(kind, precision):
    """Models of old opsets, most of them exported by torch years ago."""
    wrong = {}
    for case in load_model_tests(kind=kind):
        folder = Path(case.model_dir)
        model = ir.from_proto(onnx.load(folder / "model.onnx"))
        try:
            for data in sorted(folder.glob("test_data_set_*")):
                inputs = [
                    _stored(data / f"input_{k}.pb", v) for k, v in enumerate(model.graph.inputs)
                ]
                outputs = [
                    _stored(data / f"output_{k}.pb", v) for k, v in enumerate(model.graph.outputs)
                ]
                _check(model, inputs, outputs, precision, case)
        except UnsupportedOpError:
            if case.name not in UNKNOWN:
                raise
        except Exception as error:
            wrong[case.name] = error
    assert wrong == {}


def _check(model: ir.Model, inputs: Any, outputs: Any, precision: Any, case: Any) -> None:
    feeds = {
        v.name: _array(x)
        for v, x in zip(model.graph.inputs, inputs, strict=False)
        if not isinstance(x, Path)
    }
    got = Judge(model, precision=precision).run(feeds)
    for value, expected in zip(model.graph.outputs, outputs, strict=True):
        _same(_array(expected), got[value.name], precision, case)


def _array(x: Any) -> Any:
    return numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x


def _stored(path: Path, value: ir.Value) -> Any:
    if not path.exists():
        return path  # an input with a default
    proto = onnx.SequenceProto() if isinstance(value.type, ir.SequenceType) else onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_list(proto) if isinstance(value.type, ir.SequenceType) else _array(proto)


def _same(expected: Any, got: Any, precision: Any, case: Any) -> None:
    if isinstance(expected, list):
        assert isinstance(got, list)
        for e, g in zip(expected, got, strict=True):
            _same(e, g, precision, case)
        return
    if expected is None:
        assert got is None
        return
    expected = np.asarray(expected)
    assert expected.shape == got.shape
    if expected.dtype.kind in "OSU":
        assert expected.tolist() == got.tolist()
        return
    if precision is None:
        assert expected.dtype == got.dtype
    rtol, atol = _tolerance(expected, case)
    work = np.complex128 if expected.dtype.kind == "c" else np.float64
    np.testing.assert_allclose(got.astype(work), expected.astype(work), rtol=rtol, atol=atol)


def _tolerance(expected: Any, case: Any) -> tuple[float, float]:
    """What onnx allows the case, but at least two steps of the format it was stored in."""
    if expected.dtype.kind in "biuc" or expected.dtype.itemsize < 2 or expected.size == 0:
        return case.rtol, case.atol
    step = float(ml_dtypes.finfo(expected.dtype).eps)
    finite = np.abs(expected.astype(np.float64))
    largest = finite[np.isfinite(finite)].max(initial=0.0)
    return max(case.rtol, 2 * step), max(case.atol, 2 * step * largest)
