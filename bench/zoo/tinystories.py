"""A Llama of 260 thousand weights that tells stories, on stories of its kind.

Source: Touvron et al., "LLaMA", 2023 (arXiv 2302.13971); grouped queries as in Ainslie et al.,
2023 (arXiv 2305.13245); rotary positions as in Su et al., 2021 (arXiv 2104.09864), on neighbouring
pairs of channels as in the released code.
"""

import functools
import re
from collections.abc import Iterator, Sequence

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from bench.zoo._byte_pairs import BytePairs
from bench.zoo._entry import Batch, Entry, Sanity
from bench.zoo._folder import folder, needs

WEIGHTS = "models/stories260K.safetensors"
TOKENS = "models/tok512/tok512.bin"
STORIES = "text/tinystories/cs336_sample.txt"
CONTEXT = 512
# Tokens of a story that are judged.
WINDOW = 256
# The checkpoint's short names, and ours.
NAMES = {"n1": "attention_norm", "n2": "mlp_norm", "tok": "embedding"}


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-5) * weight over the last axis."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x[..., D]."""
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-5) * self.weight


def rotation(length: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, width / 2] of position * 10000^(-2 i / width)."""
    frequency = 10000.0 ** -(torch.arange(0, width, 2).float() / width)
    angle = torch.outer(torch.arange(length).float(), frequency)
    return angle.cos(), angle.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each neighbouring pair of channels of x[B, heads, N, width] by its position's angle."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class Layer(nn.Module):
    """Causal attention with grouped keys and values, then a gated MLP, both on normalized input."""

    def __init__(self, dim: int, heads: int, groups: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.groups, self.width = heads, groups, dim // heads
        self.attention_norm = RMSNorm(dim)
        self.wq = nn.Linear(dim, dim, bias=False)
        self.wk = nn.Linear(dim, groups * self.width, bias=False)
        self.wv = nn.Linear(dim, groups * self.width, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)
        self.mlp_norm = RMSNorm(dim)
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)

    def attention(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend over earlier tokens of x[B, N, D]."""
        batch, tokens, dim = x.shape
        q = self.wq(x).view(batch, tokens, self.heads, self.width).transpose(1, 2)
        k = self.wk(x).view(batch, tokens, self.groups, self.width).transpose(1, 2)
        v = self.wv(x).view(batch, tokens, self.groups, self.width).transpose(1, 2)
        share = self.heads // self.groups
        k = rotated(k, cos, sin).repeat_interleave(share, dim=1)
        v = v.repeat_interleave(share, dim=1)
        mixed = functional.scaled_dot_product_attention(rotated(q, cos, sin), k, v, is_causal=True)
        y: Tensor = self.wo(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return y

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Apply the layer to x[B, N, D]."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        y = self.mlp_norm(x)
        out: Tensor = x + self.w2(functional.silu(self.w1(y)) * self.w3(y))
        return out


class Llama(nn.Module):
    """Logits [B, N, vocabulary] of the token after each of tokens[B, N], N <= CONTEXT."""

    cos: Tensor
    sin: Tensor

    def __init__(
        self, *, dim: int, layers: int, heads: int, groups: int, hidden: int, vocabulary: int
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.blocks = nn.ModuleList(Layer(dim, heads, groups, hidden) for _ in range(layers))
        self.norm = RMSNorm(dim)
        cos, sin = rotation(CONTEXT, dim // heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of tokens[B, N]; the embedding's weights also score the next token."""
        count = tokens.shape[1]
        x: Tensor = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos[:count], self.sin[:count])
        return functional.linear(self.norm(x), self.embedding.weight)


def stories260k() -> Llama:
    """The trained network."""
    model = Llama(dim=64, layers=5, heads=8, groups=4, hidden=172, vocabulary=512)
    stored = safetensors.torch.load_file(folder() / WEIGHTS)
    words = {key: ".".join(NAMES.get(word, word) for word in key.split(".")) for key in stored}
    model.load_state_dict({words[key]: value for key, value in stored.items()})
    return model.eval()


@functools.cache
def tokenizer() -> BytePairs:
    """The tokenizer that the network was trained with."""
    return BytePairs.read(folder() / TOKENS)


@functools.cache
def _stories() -> tuple[list[int], ...]:
    """The tokens of each story, at most WINDOW of them."""
    text = (folder() / STORIES).read_text(encoding="utf-8")
    parts = [part.strip() for part in re.split(re.escape("<|endoftext|>"), text)]
    return tuple(tokenizer().encode(part)[:WINDOW] for part in parts if part)


def stories(limit: int | None, batch: int) -> Iterator[Batch]:
    """One story a batch, whatever `batch` is, for they differ in length: tokens, next tokens."""
    del batch
    for tokens in _stories()[:limit]:
        yield Batch((np.array([tokens[:-1]]),), np.array([tokens[1:]]))


def examples(batch: int) -> tuple[np.ndarray, ...]:
    """The beginnings of so many stories, at one length; a story may come twice."""
    chosen = [_stories()[i % len(_stories())] for i in range(batch)]
    length = min(len(tokens) for tokens in chosen) - 1
    return (np.array([tokens[:length] for tokens in chosen]),)


def next_token(logits: np.ndarray) -> np.ndarray:
    """The likeliest token after each token: logits [B, N, vocabulary] -> [B, N]."""
    return logits.argmax(axis=-1)


def surprise(outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean negative log-likelihood of a token, in nats, and its exponential."""
    found = []
    for logits, wanted in zip(outputs, targets, strict=True):
        wide = torch.from_numpy(logits).double().flatten(0, 1)
        flat = torch.from_numpy(wanted).flatten()
        found.append(functional.cross_entropy(wide, flat, reduction="none"))
    nll = float(torch.cat(found).mean())
    return {"nll": nll, "perplexity": float(np.exp(nll))}


ENTRIES = (
    Entry(
        name="llama-stories260k",
        build=stories260k,
        data=stories,
        dynamic_shapes=({0: Dim("batch"), 1: Dim("tokens", max=CONTEXT)},),
        decide=next_token,
        score=surprise,
        sanity=Sanity("nll", 1.251, tolerance=0.0005),
        missing=needs(WEIGHTS, TOKENS, STORIES),
        examples=examples,
    ),
)
