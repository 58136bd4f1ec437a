"""to_torch against the tests that onnx ships: right numbers or a refusal, never wrong numbers."""

import re
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.backend.test.loader import load_model_tests

from addax.backends.to_torch import to_torch
from addax.errors import UnsupportedOpError
from tests.backends.exchange import as_numpy, as_torch, assert_same

RANDOM = {f"test_bernoulli{form}" for form in ("", "_double", "_seed")}
RANDOM |= {f"{name}_expanded" for name in RANDOM}

UNKNOWN = {
    "Adagrad",
    "Adam",
    "ArrayFeatureExtractor",
    "Binarizer",
    "DeformConv",
    "Gradient",
    "ImageDecoder",
    "LabelEncoder",
    "MelWeightMatrix",
    "Momentum",
    "RegexFullMatch",
    "StringConcat",
    "StringNormalizer",
    "StringSplit",
    "TfIdfVectorizer",
    "TreeEnsemble",
}
"""Ops without any converter."""
FORMS = {
    "BitShift": "UINT64",
    "Cast": "element type FLOAT4E2M1|cannot round to U?INT[24]|round 'up'",
    "CastLike": "element type FLOAT4E2M1|cannot round to U?INT[24]",
    "Col2Im": "two spatial axes, not 3",
    "DFT": "axis is computed",
    "DequantizeLinear": "FLOAT4E2M1",
    "Div": "UINT64",
    "Dropout": "is computed; it must be a constant|in training is random",
    "Equal": "STRING",
    "Greater": "UINT64",
    "GreaterOrEqual": "UINT64",
    "Less": "UINT64",
    "LessOrEqual": "UINT64",
    "Max": "UINT64",
    "Min": "UINT64",
    "Mod": "UINT64",
    "Pad": "axes are computed",
    "Pow": "UINT64",
    "QuantizeLinear": "FLOAT4E2M1",
    "ReduceMax": "axes of an empty tensor are computed",
    "ReduceMin": "axes of an empty tensor are computed",
    "Resize": "aspect ratio policy",
    "RoiAlign": "maximum of weighted neighbours",
    "Scan": "no converter",
    "TopK": "UINT64",
}
"""Forms of known ops that are refused, and why."""


def node_cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_model_tests(kind="node"))


def outcome(model: ir.Model, data_sets: Any, case: Any) -> str:
    """What became of a model: it agrees, or is refused for a reason that is listed above."""
    try:
        module = to_torch(model)
    except UnsupportedOpError as error:
        return refusal(str(error))
    for inputs, outputs in data_sets:
        with torch.no_grad():
            got = module(*map(as_torch, inputs))
        if len(outputs) == 1:
            got = (got,)
        if case.name in RANDOM:
            return "random"
        for expected, value in zip(outputs, got, strict=True):
            assert_same(expected, as_numpy(value), case.rtol, case.atol)
    return "agrees"


def refusal(text: str) -> str:
    for line in text.splitlines()[1:-1]:
        op_type = line.split(": ", 1)[1].split(" of domain")[0]
        if op_type in UNKNOWN:
            assert "torch has no converter for it, and the model no function" in line
        else:
            assert op_type in FORMS, line
            assert re.search(FORMS[op_type], line), line
    return "refused"


def constants_inside(case: Any) -> tuple[onnx.ModelProto, Any]:
    """The model with all arrays but its first input made initializers, and the inputs left."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    sets = [(list(inputs), outputs) for inputs, outputs in case.data_sets[:1]]
    inputs = sets[0][0]
    for k in reversed(range(1, len(proto.graph.input))):
        if isinstance(inputs[k], np.ndarray):
            name = proto.graph.input[k].name
            proto.graph.initializer.append(onnx.numpy_helper.from_array(inputs[k], name))
            del proto.graph.input[k], inputs[k]
    return proto, sets


def test_every_twelfth_node_test():
    cases = node_cases()[::12]
    counts = Counter(outcome(ir.from_proto(c.model), c.data_sets, c) for c in cases)
    assert counts["agrees"] >= 0.9 * len(cases)


@pytest.mark.slow
def test_node_tests(capsys):
    cases = node_cases()
    counts = Counter(outcome(ir.from_proto(c.model), c.data_sets, c) for c in cases)
    with capsys.disabled():
        sys.stdout.write(f"\n{len(cases)} node tests: {dict(counts)}\n")
    assert counts["agrees"] >= 1735


@pytest.mark.slow
def test_node_tests_with_constant_operands(capsys):
    cases = node_cases()
    counts: Counter[str] = Counter()
    for case in cases:
        proto, sets = constants_inside(case)
        counts[outcome(ir.from_proto(proto), sets, case)] += 1
    with capsys.disabled():
        sys.stdout.write(f"\n{len(cases)} node tests, constant operands: {dict(counts)}\n")
    assert counts["agrees"] >= 1750


@pytest.mark.parametrize("kind", ["simple", "pytorch-converted", "pytorch-operator"])
def test_stored_models(kind):
    """Models of old opsets, most of them exported by torch years ago."""
    for case in load_model_tests(kind=kind):
        folder = Path(case.model_dir)
        model = ir.from_proto(onnx.load(folder / "model.onnx"))
        sets = [_stored(data, model) for data in sorted(folder.glob("test_data_set_*"))]
        assert outcome(model, sets, case) in ("agrees", "refused")


def _stored(folder: Path, model: ir.Model) -> tuple[list[Any], list[Any]]:
    def read(path: Path, value: ir.Value) -> Any:
        if isinstance(value.type, ir.SequenceType):
            sequence = onnx.SequenceProto.FromString(path.read_bytes())
            return list(sequence.tensor_values)
        return onnx.TensorProto.FromString(path.read_bytes())

    inputs = [v for v in model.graph.inputs if not v.is_initializer()]
    return (
        [read(folder / f"input_{k}.pb", v) for k, v in enumerate(inputs)],
        [read(folder / f"output_{k}.pb", v) for k, v in enumerate(model.graph.outputs)],
    )
