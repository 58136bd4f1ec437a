"""The language model that the benches train: its tokens, and a run that stops and goes on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench import train_lm
from bench.zoo import prose, tinystories
from bench.zoo._folder import needs

ABSENT = needs(tinystories.TOKENS, *prose.FILES)()
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)


@pytest.mark.parametrize("name", prose.FILES)
def test_words_apart_are_tokenized_as_the_text_is(name: str) -> None:
    text = (prose.folder() / name).read_text("utf-8")[5000:5400]
    assert prose.tokens_of(text).tolist() == tinystories.tokenizer().encode(text)[1:]


def test_spaces_in_a_row_are_kept() -> None:
    assert tinystories.tokenizer().decode(prose.tokens_of("a  b ").tolist()) == "a  b "


@pytest.mark.slow
def test_a_run_in_two_goes_is_the_run_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_lm, "BATCH", 1)
    monkeypatch.setattr(train_lm, "SAVED_EVERY", 2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_lm.main(["--quick", "--steps", "4", "--out", str(whole)])
    train_lm.main(["--quick", "--steps", "4", "--out", str(parts), "--minutes", "0"])
    assert not (parts / prose.CHECKPOINT).exists()
    train_lm.main(["--quick", "--steps", "4", "--out", str(parts)])
    assert (whole / prose.CHECKPOINT).read_bytes() == (parts / prose.CHECKPOINT).read_bytes()


def test_windows_depend_on_the_seed_and_the_step_alone() -> None:
    tokens = np.arange(5000)
    tokens_then, wanted = train_lm.windows(tokens, 3, 7)
    assert torch.equal(tokens_then + 1, wanted)
    assert torch.equal(tokens_then, train_lm.windows(tokens, 3, 7)[0])
    assert not torch.equal(tokens_then, train_lm.windows(tokens, 3, 8)[0])
    assert not torch.equal(tokens_then, train_lm.windows(tokens, 4, 7)[0])
