"""What modules take and return survives: dicts, keywords, None, classes of their own."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import addax
from addax.errors import InputError
from addax.frontend import STRUCTURE, to_ir
from addax.ir.model import clone


@dataclass
class Output:
    """A result as transformers makes them: fields, some of them absent."""

    logits: torch.Tensor
    hidden: tuple | None = None
    loss: torch.Tensor | None = None


pytree.register_pytree_node(
    Output,
    lambda o: ([o.logits, o.hidden, o.loss], None),
    lambda values, _: Output(*values),
    serialized_type_name="addax.tests.Output",
)


class Encoder(nn.Module):
    """Takes what encoders take: ids, a mask that may be absent, and a dict of further things."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, ids, mask=None, *, extra=None, scale=2):
        hidden = self.embed(ids)
        if mask is not None:
            hidden = hidden * mask[..., None]
        if extra is not None:
            hidden = hidden + extra["shift"] * extra["factor"]
        return Output(self.head(hidden) * scale, (hidden, hidden.sum(1)))


IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])
MASK = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
EXTRA = {"shift": torch.ones(4), "factor": torch.full((1,), 2.0)}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder().eval()


@pytest.fixture(scope="module")
def made(encoder):
    return addax.optimize(encoder, {"ids": IDS, "extra": EXTRA, "mask": MASK})


def same(expected: Output, actual: Output) -> bool:
    leaves, form = pytree.tree_flatten(expected)
    others, other = pytree.tree_flatten(actual)
    return form == other and all(
        a is b if a is None else bool(np.allclose(a.detach(), b, rtol=1e-5))
        for a, b in zip(leaves, others, strict=True)
    )


def test_a_class_comes_back_however_the_arguments_are_given(encoder, made):
    expected = encoder(IDS, MASK, extra=EXTRA)
    for actual in (
        made(IDS, MASK, extra=EXTRA),
        made(IDS, extra=EXTRA, mask=MASK),
        made(extra=EXTRA, mask=MASK, ids=IDS, scale=2),
    ):
        assert isinstance(actual, Output)
        assert isinstance(actual.logits, torch.Tensor)
        assert same(expected, actual)


def test_arrays_give_arrays_in_the_same_form(encoder, made):
    extra = {name: value.numpy() for name, value in EXTRA.items()}
    actual = made(IDS.numpy(), MASK.numpy(), extra=extra)
    assert isinstance(actual.hidden[1], np.ndarray)
    assert same(encoder(IDS, MASK, extra=EXTRA), actual)


def test_names_of_the_graph_serve_too(encoder, made):
    names = [port.name for port in made.session.inputs]
    assert ["ids", "extra_shift", "extra_factor", "mask"] == names
    feeds = dict(zip(names, (IDS, *EXTRA.values(), MASK), strict=True))
    assert same(encoder(IDS, MASK, extra=EXTRA), made(**feeds))


def test_what_was_absent_stays_absent(encoder):
    made = addax.optimize(encoder, (IDS, None))
    for actual in (made(IDS), made(IDS, None), made(ids=IDS, mask=None, extra=None)):
        assert same(encoder(IDS), actual)
    with pytest.raises(InputError, match="argument 'mask' was None when the model was exported"):
        made(IDS, MASK)
    with pytest.raises(InputError, match="argument 'extra' was left out when the model was"):
        made(IDS, None, extra=EXTRA)


def test_calls_that_do_not_fit_are_refused(made):
    with pytest.raises(InputError, match="expected arguments that fit"):
        made(IDS, MASK, EXTRA)
    with pytest.raises(InputError, match=r"argument 'extra' has the form"):
        made(IDS, MASK, extra={"shift": MASK})


def test_a_number_is_part_of_the_model(encoder):
    made = addax.optimize(encoder, {"ids": IDS, "scale": 3})
    assert same(encoder(IDS, scale=3), made(IDS, scale=3))
    with pytest.raises(InputError, match="argument 'scale' was 3 when the model was exported"):
        made(IDS, scale=2)


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        (lambda x: {"a": x, "b": (x + 1, None)}, dict),
        (lambda x: (x,), tuple),
        (lambda x: [x, x], list),
        (lambda x: x, torch.Tensor),
    ],
)
def test_forms_of_results(form, kind):
    class Formed(nn.Module):
        def forward(self, x):
            return form(torch.relu(x))

    x = torch.tensor([1.0, -2.0])
    actual = addax.optimize(Formed(), x)(x)
    assert isinstance(actual, kind)
    expected, _ = pytree.tree_flatten(form(torch.relu(x)))
    assert all(
        a is b if a is None else torch.equal(a, b)
        for a, b in zip(expected, pytree.tree_flatten(actual)[0], strict=True)
    )


def test_an_exported_program_returns_the_form_and_takes_inputs_in_order(encoder):
    program = torch.export.export(encoder, (IDS, MASK), {"extra": EXTRA})
    made = addax.optimize(program)
    assert same(encoder(IDS, MASK, extra=EXTRA), made(IDS, MASK, *EXTRA.values()))
    with pytest.raises(InputError, match="how the module takes others is not known of an Exported"):
        made(IDS, MASK, extra=EXTRA)


def test_a_copy_of_the_graph_knows_the_form(encoder):
    model = to_ir(encoder, IDS)
    assert model.meta[STRUCTURE] is clone(model).meta[STRUCTURE]


@pytest.mark.slow
def test_a_model_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    batch = {"input_ids": torch.randint(0, 50, (2, 8)), "attention_mask": torch.ones(2, 8).long()}
    made = addax.optimize(model, batch, dynamic_shapes={0: "batch", 1: "length"})
    for rows, length in ((2, 8), (3, 5)):
        batch = {
            "input_ids": torch.randint(0, 50, (rows, length)),
            "attention_mask": torch.ones(rows, length).long(),
        }
        with torch.no_grad():
            expected = model(**batch)
        actual = made(**batch)
        assert type(expected) is type(actual)
        torch.testing.assert_close(actual.logits, expected.logits, rtol=1e-4, atol=1e-5)
