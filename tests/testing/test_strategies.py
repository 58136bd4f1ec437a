"""What the public strategies draw fits what it is drawn for, and hypothesis is asked for."""

import subprocess
import sys

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from addax.errors import InputError
from addax.frontend import to_ir
from addax.ir.evaluate import evaluate
from addax.ir.parser import parse_text
from addax.testing import assert_equivalent, feeds, models, modules, weights

HEAD = '<ir_version: 10, opset_import: ["": 20]> g '


def model(text: str) -> ir.Model:
    return parse_text(HEAD + text)


@given(models(), st.data())
def test_what_is_drawn_for_a_model_fits_it(drawn: ir.Model, data: st.DataObject):
    fed = data.draw(feeds(drawn))
    for value in drawn.graph.inputs:
        if value.const_value is None:
            array = fed[value.name]
            assert value.dtype.numpy() == array.dtype
            fixed = [(d, n) for d, n in zip(value.shape, array.shape, strict=True)]
            assert all(d == n for d, n in fixed if isinstance(d, int))
    evaluate(drawn, fed)


def test_equal_names_are_equal_sizes_and_every_size_is_drawn():
    text = "(float[N,2] x, float[N,M] y) => (float[N,M] z) { a = ReduceSum(x) z = Add(a, y) }"
    drawn = feeds(model(text))
    for n, m in [(1, 5), (5, 1), (3, 3)]:
        found = find(drawn, lambda f, n=n, m=m: f["y"].shape == (n, m))
        assert (n, 2) == found["x"].shape
    fixed = find(feeds(model(text), sizes={"N": 7}), lambda f: True)
    assert (7, 2) == fixed["x"].shape


@given(feeds(model("(int64[N] i, float[3,2] t) => (float[N,2] y) { y = Gather(t, i) }")))
def test_indices_stay_within_what_they_index(fed: dict):
    assert np.all((fed["i"] >= 0) & (fed["i"] < 3))


@given(
    feeds(
        model("(float[N,2] x, float[M,2] y) => (float[N,2] z) { z = Add(x, y) }"),
    )
)
def test_sizes_on_which_the_model_fails_are_not_drawn(fed: dict):
    assert 1 == min(len(fed["x"]), len(fed["y"])) or len(fed["x"]) == len(fed["y"])


def test_an_input_without_a_rank_cannot_be_drawn():
    unknown = model("(float[N] x) => (float[N] y) { y = Relu(x) }")
    unknown.graph.inputs[0].shape = None
    with pytest.raises(InputError, match="nothing can be drawn for input 'x'"):
        find(feeds(unknown), lambda f: True)


def test_weights_have_the_shape_and_type_and_are_of_several_kinds():
    drawn = weights((2, 3), np.float16)
    found = [
        find(drawn, lambda w: np.all(w == np.round(w))),
        find(drawn, lambda w: np.abs(w).max() < 1e-2 and np.all(w != 0)),
        find(drawn, lambda w: np.abs(w).min() > 100),
    ]
    assert all(w.shape == (2, 3) and w.dtype == np.float16 for w in found)
    assert np.isnan(find(weights((9,), special=True), lambda w: np.isnan(w).any())).any()
    assert 0.5 <= find(weights((4,), positive=True), lambda w: w.min() < 0.6).min()


@settings(max_examples=4, phases=[Phase.generate])
@given(modules())
def test_modules_run_and_export(drawn: tuple):
    module, inputs = drawn
    assert not module.training
    with torch.no_grad():
        expected = module(*inputs)
    exported = to_ir(module, inputs)
    names = [value.name for value in exported.graph.inputs]
    fed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    actual = evaluate(exported, fed)
    np.testing.assert_allclose(expected, next(iter(actual.values())), rtol=1e-3, atol=1e-4)


def test_modules_of_each_form_are_drawn_and_leave_the_generator_alone():
    before = torch.random.get_rng_state()
    for kind in (torch.nn.Conv2d, torch.nn.LayerNorm, torch.nn.BatchNorm1d):
        module, _ = find(modules(), lambda d, k=kind: any(isinstance(m, k) for m in d[0].modules()))
        assert len(module) == 1
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["attention", "residual"])
def test_blocks_are_equal_to_their_optimized_forms(name: str):
    import addax
    from addax.testing.strategies.modules import stack

    module, inputs = stack("tokens", [name, "linear"])
    assert assert_equivalent(module, addax.optimize(module, inputs), inputs=inputs).holds


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_without_hypothesis_the_import_says_what_to_install():
    found = run("import sys; sys.modules['hypothesis'] = None; import addax.testing")
    assert found.stderr.strip().endswith(
        "addax.testing draws models with hypothesis, which is not installed: "
        "pip install addax[testing]"
    )


def test_pytest_and_torch_are_not_loaded():
    found = run("import sys, addax.testing; print([m in sys.modules for m in ('pytest', 'torch')])")
    assert "[False, False]" == found.stdout.strip()
