"""Models in TVM call kernels for nodes of the dialect: the right ones, for any size."""

import numpy as np
import onnx_ir as ir
import pytest

import addax
from addax.backends.kernel_code import KernelCode
from addax.backends.to_ort import to_ort
from addax.backends.to_tvm import to_tvm
from addax.errors import BuildError, OptionError
from addax.runtime.kernels import host_code
from addax.runtime.session import Session
from addax.runtime.tvm_session import TvmSession
from tests.backends.ort.libraries import FORMS, MANY, layer, reference_library, representable
from tests.backends.tvm.linked import plain_code

pytest.importorskip("tvm")


def linked(model: ir.Model, code: KernelCode | None = None, **options) -> TvmSession:
    return TvmSession(to_tvm(model, kernels=code or plain_code(), **options))


def body(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return Session(to_ort(model), threads=1).run({"x": x})["y"]


@pytest.mark.parametrize("columns", [1, 130])
@pytest.mark.parametrize("form", FORMS)
def test_kernels_equal_bodies_on_activations_that_rounding_leaves_alone(form, columns):
    model = layer(form, 65, columns, ("B",))
    session = linked(model)
    for tokens in (0, 1, MANY - 1, MANY, 9):
        x = representable(form, (tokens,), columns, tokens >= MANY)
        np.testing.assert_array_equal(body(model, x), session.run({"x": x})["y"])


@pytest.mark.parametrize("lead", [(), (1,), (2, MANY), (0, 3)])
def test_fixed_sizes_of_any_rank(lead):
    model = layer("codebook2", 70, 40, lead)
    x = representable("codebook2", lead, 40, int(np.prod(lead)) >= MANY)
    np.testing.assert_array_equal(body(model, x), linked(model).run({"x": x})["y"])


def test_two_open_sizes_may_be_equal_or_not():
    session = linked(layer("int8", 30, 40, ("A", 2, "B")))
    for lead in ((3, 2, 3), (1, 2, 5)):
        x = representable("int8", lead, 40, True)
        expected = body(layer("int8", 30, 40, ("A", 2, "B")), x)
        np.testing.assert_array_equal(expected, session.run({"x": x})["y"])


@pytest.mark.parametrize("tokens", [1, 40, 600])
@pytest.mark.parametrize("rows", [64, 700])
@pytest.mark.parametrize("is_open", [True, False])
def test_work_is_divided_without_gaps(tokens, rows, is_open):
    model = layer("codebook4", rows, 96, ("B" if is_open else tokens,))
    x = representable("codebook4", (tokens,), 96, tokens >= MANY)
    np.testing.assert_array_equal(body(model, x), linked(model).run({"x": x})["y"])


@pytest.mark.parametrize("form", ["codebook4", "binary2", "int8"])
def test_results_are_those_of_onnx_runtime_with_kernels(form):
    """Also where activations are rounded: the same kernels on the same numbers."""
    model = layer(form, 65, 96)
    x = np.random.default_rng(0).standard_normal((20, 96)).astype(np.float32)
    kernels = Session(to_ort(model), library=reference_library())
    np.testing.assert_array_equal(kernels.run({"x": x})["y"], linked(model).run({"x": x})["y"])
    assert not np.array_equal(body(model, x), linked(model).run({"x": x})["y"])


def perceptron() -> tuple[ir.Model, np.ndarray]:
    """Two layers that share nothing but their sizes, with a Relu between them."""
    model, second = (layer("codebook4", 64, 64, ("B",), seed) for seed in (0, 1))
    graph, other = model.graph, second.graph.node(0)
    hidden, other.name = ir.node("Relu", [graph.outputs[0]]), "second"
    graph.outputs[0].name, hidden.outputs[0].name = "g", "h"
    hidden.outputs[0].dtype, hidden.outputs[0].shape = ir.DataType.FLOAT, graph.outputs[0].shape
    constants = list(second.graph.initializers.values())
    second.graph.remove(other)
    other.replace_input_with(0, hidden.outputs[0])
    for value in constants:
        second.graph.initializers.pop(str(value.name))
        value.name = f"{value.name} 2"
        graph.register_initializer(value)
    graph.extend([hidden, other])
    second.graph.outputs.clear()
    graph.outputs[:] = [other.outputs[0]]
    return model, representable("codebook4", (5,), 64, True)


def test_layers_alike_share_a_function_and_a_saved_library_has_the_kernels(tmp_path):
    model, x = perceptron()
    session = linked(model)
    made = session.run({"x": x})["y"]
    kernels = Session(to_ort(model), library=reference_library())
    np.testing.assert_array_equal(kernels.run({"x": x})["y"], made)
    session.library.save(tmp_path / "model.so")
    del session
    np.testing.assert_array_equal(made, addax.load(tmp_path / "model.so").run({"x": x})["y"])
    code = (tmp_path / "model.so").read_bytes()
    assert b"addax_codebook4_layer0" in code
    assert b"addax_codebook4_layer1" not in code


@pytest.mark.parametrize("is_output", [True, False])
def test_a_layer_of_constants_is_not_run_before_there_are_kernels(is_output):
    model, _ = perceptron()
    x = model.graph.inputs.pop(0)
    x.shape, x.const_value = ir.Shape((5, 64)), ir.tensor(np.ones((5, 64), np.float32), name="x")
    model.graph.register_initializer(x)
    if is_output:
        hidden = model.graph.node(1).outputs[0]
        model.graph.outputs.append(hidden)
    session = linked(model)
    expected = Session(to_ort(model)).run({})
    for name, made in session.run({}).items():
        np.testing.assert_allclose(made, expected[name], rtol=0.02, atol=9)


def test_tuning_leaves_the_kernels_alone():
    model = layer("codebook4", 64, 64, (3,))
    x = representable("codebook4", (3,), 64, True)
    told: list[str] = []
    session = linked(model, tune=0.1, say=told.append)
    np.testing.assert_array_equal(body(model, x), session.run({"x": x})["y"])


def test_a_linker_that_fails():
    code = KernelCode(plain_code().isa, b"no object")
    with pytest.raises(BuildError, match=r"the kernels cannot be linked to the model: OSError"):
        linked(layer("int8", 8, 40), code)


def test_the_report_says_which_nodes_have_a_kernel(monkeypatch):
    monkeypatch.setattr("addax.runtime.kernels.host_code", plain_code)
    fast = addax.optimize(to_ort(layer("codebook4", 8, 40)), target="tvm")
    assert "kernels: scalar: 1 CodebookMatMul" in fast.report.notes
    x = representable("codebook4", (5,), 40, True)
    np.testing.assert_array_equal(body(layer("codebook4", 8, 40), x), fast(x))


def test_without_kernels_all_nodes_keep_their_bodies(monkeypatch):
    def none() -> KernelCode:
        raise BuildError("no compiler")

    monkeypatch.setattr("addax.runtime.kernels.host_code", none)
    fast = addax.optimize(to_ort(layer("codebook4", 8, 40)), target="tvm")
    expected = "kernels: bodies: 1 CodebookMatMul, because no compiler"
    assert expected in fast.report.notes


def test_options_of_onnx_runtime_are_refused_for_a_library(tmp_path):
    (tmp_path / "model.so").write_bytes(b"")
    for options in ({"threads": 1}, {"library": "x.so"}):
        with pytest.raises(OptionError, match=r"model.so is a library by TVM, which takes neither"):
            addax.load(tmp_path / "model.so", **options)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_kernels_of_this_machine(form):
    code, model = host_code(), layer(form, 130, 96)
    session = linked(model, code)
    few = code.isa.few.get(form, 4)
    for tokens in (1, few, few + 1, 300):
        x = representable(form, (tokens,), 96, tokens > few)
        np.testing.assert_array_equal(body(model, x), session.run({"x": x})["y"])
