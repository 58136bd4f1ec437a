"""One door for every kind of model, which loads no more than it needs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from addax.errors import OptionError
from addax.frontend import to_ir

TEXT = '<ir_version: 10, opset_import: ["": 20]> g (float x) => (float y) { y = Neg(x) }'


def test_onnx_in_every_form(tmp_path):
    proto = onnx.parser.parse_model(TEXT)
    onnx.save(proto, tmp_path / "m.onnx")
    data = proto.SerializeToString()
    for source in (
        tmp_path / "m.onnx",
        str(tmp_path / "m.onnx"),
        data,
        proto,
        ir.from_proto(proto),
    ):
        assert ["Neg"] == [node.op_type for node in to_ir(source).graph]


def test_modules_of_torch_are_told_apart(monkeypatch):
    chosen = []
    monkeypatch.setattr(
        "addax.frontend.from_torch.from_torch", lambda *args, **kwargs: chosen.append(args[0])
    )
    module = torch.nn.Linear(2, 2)
    program = torch.export.export(module, (torch.ones(2),))
    to_ir(module, 1)
    to_ir(program)
    assert [module, program] == chosen


@pytest.mark.parametrize("thing", [3, None, np.ones(3), object, torch.ones(2)])
def test_other_things_are_refused(thing):
    with pytest.raises(OptionError, match=r"cannot read a model from .*; expected an nn\.Module"):
        to_ir(thing)


@pytest.mark.parametrize("options", [{"dynamic_shapes": {0: "batch"}}, {"kwargs": {"x": 1}}])
def test_options_for_torch_with_onnx(options):
    with pytest.raises(OptionError, match="are for modules of torch; an ONNX model already says"):
        to_ir(onnx.parser.parse_model(TEXT), **options)


def test_onnx_is_read_without_loading_torch():
    text = f"""
import sys
from addax.frontend import to_ir
import onnx
to_ir(onnx.parser.parse_model({TEXT!r}))
print(sorted({{"torch", "onnxruntime", "tvm"}} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", text],
        check=True,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
    )
    assert "[]" == done.stdout.strip()
