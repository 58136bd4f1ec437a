"""Networks as they are trained: `addax.optimize` keeps their function and reaches their ideal.

The ideal is counted on a network of the folded structure, written by hand (`bench.train_forms`).
`PENDING` holds what is not reached yet; a form that comes to be reached turns its test red, and
its line goes.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
import pytest
import torch

import addax
from addax.frontend import to_ir
from addax.ir.model import clone
from addax.ir.rule import Exact
from addax.ir.shapes import infer_shapes
from addax.ir.tolerance import disagreement
from addax.passes._pipeline import Pipeline, run_pipeline
from bench import train_forms
from bench.train_forms import FORMS, Counts, TrainForm

FAST = frozenset({"repvgg", "expanded", "repmixer", "lora-mlp", "idle-where", "trap-border"})
VARIED = (
    *("mobileone", "dbb", "fastvit", "levit", "lora-attention", "layer-scale", "idle-where"),
    *("idle-slices", "idle-convolutions", "idle-block", "depth-joined-block", "trap-active-tokens"),
)
_WIDER = "branches are not yet put side by side where that saves nodes and no multiplies"
PENDING: dict[str, str] = {
    "depth-apart-layer": _WIDER,
    "depth-apart-attention": _WIDER,
    "depth-summed-scores": _WIDER,
    "depth-shared-weights": "attention's weights are not yet seen as one map that branches share",
    "depth-blockwise": _WIDER,
}
UNREAD = {
    ("dbb", "any batch"): "a border scattered at Range(0, batch) is not yet read as a part's fill"
}


@dataclass(frozen=True)
class Found:
    """A form before and after, as the judge reads it."""

    before: ir.Model
    after: ir.Model


def exported(form: TrainForm, variant: str) -> ir.Model:
    """A form as torch exports it: unoptimized, by default, or for any batch."""
    module, inputs = form.build(), form.inputs()
    if variant == "optimized export":
        program = torch.onnx.export(module, inputs, dynamo=True, optimize=True, verbose=False)
        assert program is not None
        return to_ir(program.model)
    return to_ir(module, inputs, dynamic_shapes={0: "batch"} if variant == "any batch" else None)


@functools.cache
def found(form: TrainForm, variant: str = "export") -> Found:
    """Optimize a form once. The judge knows no sequences, so the original has none left."""
    original = exported(form, variant)
    before = clone(original)
    infer_shapes(before)
    run_pipeline(before, Pipeline.parse("cleanup,canonicalize,partition"))
    return Found(before, addax.optimize(original, progress=False).model)


@functools.cache
def ideal(form: TrainForm) -> Counts:
    """The linear nodes and multiplies of the hand-written structure; its other nodes optimized.

    Nothing may be left to fold in it: else it were no ideal.
    """
    model = to_ir(form.build_ideal(), form.inputs())
    written, settled = Counts.of(model), Counts.of(addax.optimize(model, progress=False).model)
    assert (written.linears, written.multiplies) == (settled.linears, settled.multiplies)
    return settled


def forms(pending: Mapping[str, str] = MappingProxyType({})) -> list:
    """Every form as a parameter, the marks of what is slow or not reached on it."""
    marked = []
    for form in FORMS:
        marks = [] if form.name in FAST else [pytest.mark.slow]
        if form.name in pending:
            marks.append(pytest.mark.xfail(strict=True, reason=pending[form.name]))
        marked.append(pytest.param(form, id=form.name, marks=marks))
    return marked


def feeds(form: TrainForm, model: ir.Model, batch: int | None = None) -> dict[str, np.ndarray]:
    """Drawn inputs, and one of equal pixels, which shows what happens at a border."""
    (tensor,) = form.inputs(seed=1, batch=batch)
    array = tensor.numpy().copy()
    array[0] = 1
    return {str(model.graph.inputs[0].name): array}


@pytest.mark.parametrize("form", forms())
def test_keeps_the_function(form: TrainForm) -> None:
    made = found(form)
    fed = feeds(form, made.before)
    assert None is disagreement(made.before, made.after, fed, Exact.REASSOCIATED)


@pytest.mark.parametrize("form", forms(PENDING))
def test_reaches_the_ideal(form: TrainForm) -> None:
    made, best = Counts.of(found(form).after), ideal(form)
    assert (best.linears, best.multiplies) == (made.linears, made.multiplies)
    assert made.others <= best.others


@pytest.mark.parametrize("form", forms())
def test_never_costs_more(form: TrainForm) -> None:
    """Idle channels are one linear node more in the ideal, and fewer multiplies."""
    made = found(form)
    before, after = Counts.of(made.before), Counts.of(made.after)
    assert after.linears <= max(before.linears, ideal(form).linears)
    assert after.multiplies <= before.multiplies


def variants() -> list:
    """Every varied form in every variant, the marks of what is not reached on it."""
    marked = []
    for name in VARIED:
        for variant in ("optimized export", "any batch"):
            reason = UNREAD.get((name, variant))
            marks = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
            marked.append(pytest.param(name, variant, id=f"{name}-{variant}", marks=marks))
    return marked


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), variants())
def test_every_export_comes_to_the_same(name: str, variant: str) -> None:
    form = train_forms.form(name)
    made, plain = found(form, variant), Counts.of(found(form).after)
    batch = 3 if variant == "any batch" else None
    fed = feeds(form, made.before, batch)
    assert None is disagreement(made.before, made.after, fed, Exact.REASSOCIATED)
    counts = Counts.of(made.after)
    scale = form.shape[0] if variant == "any batch" else 1
    assert (plain.linears, plain.multiplies) == (counts.linears, counts.multiplies * scale)


def test_there_are_forms_and_their_names_are_unique() -> None:
    names = [form.name for form in FORMS]
    assert len(names) >= 40
    assert sorted(set(names)) == sorted(names)
    assert set(names) >= set(PENDING)
    assert set(names) >= FAST


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(KeyError, match=r"expected one of repvgg, .*; got 'x'"):
        train_forms.form("x")


def test_the_seed_decides() -> None:
    form = train_forms.form("repvgg")
    one, same, other = (form.build(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)
