"""A Llama of 5.6 million weights on Shakespeare and on articles of Wikipedia.

`python -m bench.train_lm --out FOLDER` makes its checkpoint; $ADDAX_LM names that folder. The text
is in the data folder: the first 95 % of each file train, of the rest the first tokens are judged.

Source of the text: Merity et al., "Pointer sentinel mixture models", 2016 (arXiv 1609.07843), of
which only the smaller two files are here, and the works of Shakespeare.
"""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.torch
from torch.export import Dim

from bench.zoo import tinystories
from bench.zoo._entry import Batch, Entry, Sanity
from bench.zoo._folder import folder, needs

FILES = ("text/tinyshakespeare.txt", "text/wikitext-2/valid.txt", "text/wikitext-2/test.txt")
SIZES = {"dim": 256, "layers": 7, "heads": 4, "groups": 2, "hidden": 768, "vocabulary": 512}
CHECKPOINT = "llama-prose.safetensors"
TRAINING_SHARE = 0.95
WINDOW = 256
# Windows of each file that are judged.
JUDGED = 24


def untrained() -> tinystories.Llama:
    """The network with torch's default weights."""
    return tinystories.Llama(**SIZES)


def tokens_of(text: str) -> np.ndarray:
    """Tokens int64 [N] of a text of any length, without the token that begins one.

    No piece of the vocabulary holds a space but at its beginning, so each word can be joined alone.
    """
    tokenizer = tinystories.tokenizer()
    space = tokenizer.index[b" "]
    spelt = functools.cache(lambda word: tokenizer.encode(word)[1:] or [space])
    return np.array([token for word in text.split(" ") for token in spelt(word)])


@functools.cache
def _parts() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The training tokens and the others of each file; text is cut where a line ends."""
    found = []
    for name in FILES:
        text = (folder() / name).read_text(encoding="utf-8")
        cut = text.index("\n", int(TRAINING_SHARE * len(text))) + 1
        found.append((tokens_of(text[:cut]), tokens_of(text[cut:])))
    return tuple(found)


def training_tokens() -> np.ndarray:
    """All tokens that train, int64 [N], one file after another."""
    return np.concatenate([train for train, _ in _parts()])


def held_out(limit: int | None, batch: int) -> Iterator[Batch]:
    """Windows of text that did not train, the files in turn: tokens and next tokens [B, WINDOW]."""
    windows = []
    for at in range(JUDGED):
        for _, rest in _parts():
            windows.append(rest[at * WINDOW : (at + 1) * WINDOW + 1])
    chosen = np.stack(windows[:limit])
    for start in range(0, len(chosen), batch):
        part = chosen[start : start + batch]
        yield Batch((part[:, :-1],), part[:, 1:])


def calibration(windows: int, seed: int = 0) -> np.ndarray:
    """Random windows of the training text, int64 [windows, WINDOW]."""
    tokens = training_tokens()
    starts = np.random.default_rng(seed).integers(0, len(tokens) - WINDOW, windows)
    return tokens[starts[:, None] + np.arange(WINDOW)]


def _checkpoint() -> Path | None:
    place = os.environ.get("ADDAX_LM")
    return Path(place) / CHECKPOINT if place else None


def missing() -> str:
    """Why the entry cannot be used here; empty if it can."""
    path = _checkpoint()
    if path is None or not path.exists():
        return f"$ADDAX_LM is no folder with {CHECKPOINT} (python -m bench.train_lm --out FOLDER)"
    return needs(tinystories.TOKENS, *FILES)()


def llama_prose() -> tinystories.Llama:
    """The trained network."""
    path = _checkpoint()
    if path is None:
        raise FileNotFoundError(missing())
    model = untrained()
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()


ENTRIES = (
    Entry(
        name="llama-prose",
        build=llama_prose,
        data=held_out,
        dynamic_shapes=({0: Dim("batch"), 1: Dim("tokens", max=tinystories.CONTEXT)},),
        decide=tinystories.next_token,
        score=tinystories.surprise,
        # Another machine rounds differently while it trains, and ends elsewhere.
        sanity=Sanity("nll", 1.98, tolerance=0.02),
        missing=missing,
    ),
)
