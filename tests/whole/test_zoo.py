"""The zoo: its tokenizers, and the figures that its networks must show on real data."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import zoo
from bench.zoo._byte_pairs import BEGIN, FIRST_BYTE, BytePairs
from bench.zoo._folder import needs
from bench.zoo._images import spaced
from bench.zoo._word_pieces import WordPieces, words

# karpathy/llama2.c, test_all.py: what the network says first, choosing the likeliest token.
ONCE_UPON_A_TIME = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball. She wanted to play with it, but it was too high.\n"
    "Lily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. "
    'She said, "I want to play with your ball, but I can\'t find it."\n'
    "Lily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to "
    "do.\"\nLily didn't want to help her mom, so she"
)


def entry(name: str) -> zoo.Entry:
    try:
        return zoo.entry(name)
    except FileNotFoundError as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in zoo.CATALOGUE])
def test_shows_the_known_figure(name: str) -> None:
    known = entry(name)
    sanity = known.sanity
    found = zoo.evaluate(known, zoo.torch_predict(known.build()), sanity.limit)
    assert sanity.value == pytest.approx(found[sanity.metric], abs=sanity.tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in zoo.CATALOGUE])
def test_every_dynamic_dimension_is_one(name: str) -> None:
    """Exported on two examples, a network serves other sizes with the same answers."""
    known = entry(name)
    model = known.build()
    program = torch.export.export(
        model, known.example_inputs(2), dynamic_shapes=known.dynamic_shapes
    ).module()
    found = zoo.compare(known, zoo.torch_predict(model), zoo.torch_predict(program), 10, batch=3)
    assert found.same == 1
    assert found.difference < 1e-5


@pytest.mark.slow
def test_the_two_super_resolutions_are_one_function() -> None:
    """But for the two ReLUs that end the second: it stays between black and white."""
    one, other = entry("ecbsr-residual"), entry("ecbsr-plain")
    trained, plain = zoo.torch_predict(one.build()), zoo.torch_predict(other.build())
    found = zoo.compare(one, lambda x: trained(x).clip(0, 1), plain, 25)
    assert found.difference < 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_the_storyteller_tells_its_story() -> None:
    model = entry("llama-stories260k").build()
    from bench.zoo.tinystories import tokenizer

    tokens = [BEGIN]
    for _ in range(202):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    assert tokenizer().decode(tokens).startswith(ONCE_UPON_A_TIME)


@pytest.mark.slow
def test_a_limit_samples_all_classes() -> None:
    known = entry("cifar-resnet20")
    (batch,) = known.data(30, 30)
    assert [3] * 10 == np.bincount(batch.targets).tolist()


def test_names_are_unique() -> None:
    names = [entry.name for entry in zoo.CATALOGUE]
    assert sorted(set(names)) == sorted(names)


def test_an_entry_is_here_or_its_absence_has_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ADDAX_DATA", str(tmp_path))
    assert zoo.entries() == ()
    assert set(zoo.missing()) == {entry.name for entry in zoo.CATALOGUE}
    assert needs("a", "b")() == f"{tmp_path} lacks a, b (set ADDAX_DATA)"
    with pytest.raises(FileNotFoundError, match=r"deit-tiny: .* lacks models/deit_tiny"):
        zoo.entry("deit-tiny")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError, match=r"expected one of deit-tiny, .*; got 'x'"):
        zoo.entry("x")


@given(count=st.integers(1, 600), limit=st.none() | st.integers(1, 700))
def test_a_sample_is_even(count: int, limit: int | None) -> None:
    chosen = spaced(count, limit)
    assert len(chosen) == min(count, count if limit is None else limit)
    steps = {b - a for a, b in pairwise(chosen)}
    assert chosen[0] == 0
    assert max(steps, default=1) - min(steps, default=1) <= 1
    assert chosen[-1] < count


SPELLING = BytePairs(
    pieces=[b"<unk>", b"<s>", b"</s>"]
    + [b"<0x%02X>" % byte for byte in range(256)]
    + [b" ", b"a", b"b", b"ab", b" a", b" ab"],
    scores=[0.0] * 259 + [-1e9, -1e9, -1e9, -1.0, -2.0, -3.0],
)


@given(st.text(max_size=12))
def test_byte_pairs_spell_every_text(text: str) -> None:
    assert text == SPELLING.decode(SPELLING.encode(text))


def test_byte_pairs_join_the_best_first() -> None:
    pieces = [SPELLING.pieces[token] for token in SPELLING.encode("ab a")]
    assert pieces == [b"<s>", b" ab", b" a"]
    assert SPELLING.encode("é")[2:] == [0xC3 + FIRST_BYTE, 0xA9 + FIRST_BYTE]
    assert SPELLING.encode("") == [BEGIN]


def test_words_are_lower_case_and_plain() -> None:
    assert words("Café,  naïve\u00a0A-B\t$5 東京\x00!") == [
        *("cafe", ",", "naive", "a", "-", "b", "$", "5", "東", "京", "!")
    ]


@given(st.text())
def test_words_hold_no_space_and_are_stable(text: str) -> None:
    found = words(text)
    assert all(word and word.split() == [word] for word in found)
    assert words(" ".join(found)) == found


def test_word_pieces_take_the_longest_first() -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "##in", "##g", "pl", "a"]
    tokenizer = WordPieces(vocabulary, limit=6)
    assert tokenizer.encode("Playing a") == [2, 4, 5, 9, 3]
    assert tokenizer.encode("playx") == [2, 1, 3]
    assert tokenizer.encode("a" * 101) == [2, 1, 3]
    assert tokenizer.encode("a a a a a a a") == [2, 9, 9, 9, 9, 3]
