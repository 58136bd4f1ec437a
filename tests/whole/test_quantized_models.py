"""What the passes do for quantizers, on networks that were trained."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

import addax
from addax.demo import load_images, load_model
from addax.frontend import to_ir
from bench import zoo
from bench.quantizers import predict, static
from bench.stress import stretched


def relative(error: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(error - exact) / np.linalg.norm(exact))


@pytest.mark.slow
def test_the_fold_makes_stretched_channels_harmless_to_another_quantizer():
    model = stretched(load_model())
    images, _ = load_images("test")
    calibration, _ = load_images("calibration")
    with torch.no_grad():
        exact = load_model()(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(model(torch.from_numpy(images)).numpy(), exact, atol=1e-3)
    example = torch.from_numpy(images[:2])
    shapes = ({0: torch.export.Dim("batch")},)
    errors = []
    for allow in ((), ("layernorm-reparam",)):
        made = addax.optimize(
            model, example, dynamic_shapes=shapes, target="portable", allow=allow,
            calibration=np.split(calibration, 4),
        )  # fmt: skip
        quantized = static(ir.to_proto(made.model), np.split(calibration, 4))
        errors.append(relative(predict(quantized, images), exact))
    plain, folded = errors
    assert folded < 0.06
    assert plain > 5 * folded


@pytest.mark.slow
@pytest.mark.skipif("deit-tiny" in zoo.missing(), reason="the weights of deit-tiny are not here")
def test_deit_tiny_loses_less_by_ours_than_by_a_static_quantizer():
    entry = zoo.entry("deit-tiny")
    images = np.concatenate([batch.inputs[0] for batch in entry.data(64, 16)])
    calibration, images = np.split(images[::2], 2), images[1::2]
    exact = entry.build()
    source = to_ir(exact, torch.from_numpy(images[:2]), dynamic_shapes=entry.dynamic_shapes)
    with torch.no_grad():
        expected = exact(torch.from_numpy(images)).numpy()
    theirs = static(ir.to_proto(addax.optimize(source, target="portable").model), calibration)
    made = addax.optimize(
        source, target="portable", allow=("layernorm-reparam", "int8"), calibration=calibration
    )
    ours = relative(np.asarray(made(images)), expected)
    assert ours < 0.13
    assert ours < relative(predict(theirs, images), expected)
