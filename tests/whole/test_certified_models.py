"""Trained networks are optimized with every rewrite proved, saved, read again and replayed."""

from pathlib import Path

import onnx_ir as ir
import pytest

import addax
from addax.frontend import to_ir
from addax.ir.certificate import Certificate, replay
from addax.ir.model import save
from bench import zoo

NAMES = ("deit-tiny", "llama-stories260k", "cifar-resnet20", "mobilenet-v1-025")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_trained_network_is_certified(name: str, tmp_path: Path) -> None:
    if name in zoo.missing():
        pytest.skip(zoo.missing()[name])
    entry = next(entry for entry in zoo.entries() if entry.name == name)
    made = addax.optimize(
        entry.build(), entry.example_inputs(), dynamic_shapes=entry.dynamic_shapes, verify=True
    )
    save(made.original, tmp_path / "before.onnx")
    made.save(tmp_path / "after.onnx")
    made.certificate.save(tmp_path / "certificate.json")
    before, after = to_ir(tmp_path / "before.onnx"), to_ir(tmp_path / "after.onnx")
    found = replay(before, after, Certificate.load(tmp_path / "certificate.json"))
    assert found.is_complete, str(found)
    assert found.steps == found.proved + found.measured > 100
    assert found.error_probability < 1e-9
    weight = max(after.graph.initializers.values(), key=lambda v: v.const_value.size)
    array = weight.const_value.numpy().copy()
    array.flat[0] += array.dtype.type(2) ** -20
    weight.const_value = ir.tensor(array)
    assert not replay(before, after, Certificate.load(tmp_path / "certificate.json")).holds
