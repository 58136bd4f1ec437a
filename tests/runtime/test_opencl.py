"""Layers on OpenCL, on the driver of this machine: PoCL, which runs kernels on the processor."""

import builtins
from importlib.util import find_spec

import numpy as np
import pytest

from addax.errors import InputError, MissingPackageError
from addax.runtime.beside import folder_beside
from addax.runtime.gpu import save_program
from addax.runtime.opencl import OpenClLayers
from tests.backends.ort.libraries import FORMS, layer, representable, weights

QUICK = ("codebook4", "binary1", "int8")  # PoCL takes long to compile the others
SIZES = [(1, 7), (65, 33), (129, 129), (64, 1), (31, 256)]
CASES = [
    pytest.param(
        form, *size, marks=() if form in QUICK and size in SIZES[1:3] else pytest.mark.slow
    )
    for form in FORMS
    for size in SIZES
]
HINT = "pip install addax[gpu-tests]"


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    """A function that puts a drawn layer on the device."""
    cl = pytest.importorskip("pyopencl", reason=f"pyopencl is not installed: {HINT}")
    if find_spec("tvm") is None:
        pytest.skip("TVM, which writes the kernels, is not installed")
    try:
        found = cl.get_platforms()
    except cl.Error:
        found = []
    if not found:
        pytest.skip(f"no OpenCL driver is installed: {HINT}")

    def made(form: str, rows: int, columns: int) -> OpenClLayers:
        path = tmp_path_factory.mktemp("opencl") / "model.onnx"
        save_program(layer(form, rows, columns), "opencl", path)
        return OpenClLayers(folder_beside(path, "opencl"))

    return made


def formula(form: str, rows: int, columns: int, x: np.ndarray) -> np.ndarray:
    return (x @ weights(form, rows, columns)[-1].T).astype(np.float32)


@pytest.mark.parametrize(("form", "rows", "columns"), CASES)
def test_layers_are_exact_on_activations_that_rounding_leaves_alone(layers, form, rows, columns):
    on_device = layers(form, rows, columns)
    for many in (False, True):
        for tokens in (1, 7, 18):
            x = representable(form, (tokens,), columns, many)
            made = on_device.run("y", x, many=many)
            np.testing.assert_array_equal(formula(form, rows, columns, x), made)


@pytest.mark.parametrize("form", QUICK)
def test_any_activations_are_within_rounding(layers, form):
    on_device = layers(form, 70, 200)
    x = np.random.default_rng(0).standard_normal((2, 3, 200)).astype(np.float32)
    for many in (False, True):
        exact = formula(form, 70, 200, x)
        made = on_device.run("y", x, many=many)
        assert exact.shape == made.shape
        assert 0.02 > np.linalg.norm(made - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("form", ["codebook4", "binary1"])
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_a_token_that_is_not_finite_gives_nan_and_zeros_give_zeros(layers, form, strange):
    on_device = layers(form, 5, 40)
    x = np.zeros((3, 40), np.float32)
    x[1, 39] = strange
    for many in (False, True):
        y = on_device.run("y", x, many=many)
        assert np.isnan(y[1]).all()
        assert 0 == np.abs(y[[0, 2]]).max()


def test_what_a_layer_cannot_take_is_refused(layers):
    on_device = layers("int8", 3, 8)
    assert ("y",) == on_device.names
    assert (0, 3) == on_device.run("y", np.zeros((0, 8), np.float32)).shape
    on_device.repeat("y", np.ones((2, 8), np.float32), 3)()
    with pytest.raises(InputError, match="expected one of y; got 'z'"):
        on_device.run("z", np.zeros((1, 8), np.float32))
    with pytest.raises(InputError, match=r"'y' is made of float32\[..., 8\]; got float32\[1, 9\]"):
        on_device.run("y", np.zeros((1, 9), np.float32))


def test_a_missing_driver_or_package_is_named(layers, tmp_path, monkeypatch):
    import pyopencl

    save_program(layer("int8", 3, 8), "opencl", tmp_path / "model.onnx")
    folder = folder_beside(tmp_path / "model.onnx", "opencl")
    monkeypatch.setattr(pyopencl, "get_platforms", list)
    with pytest.raises(MissingPackageError, match="expected an OpenCL driver"):
        OpenClLayers(folder)

    actual = builtins.__import__

    def importing(name, *args, **kwargs):
        if name == "pyopencl":
            raise ImportError(name)
        return actual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(MissingPackageError, match="through pyopencl, which is not installed"):
        OpenClLayers(folder)
