"""Modules that torch exported and to_torch brings back: numbers, names, gradients, export again."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from torch import nn

from addax.backends.to_torch import to_torch

BATCH = torch.export.Dim("batch", min=1)


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.Hardswish()),
            *(nn.MaxPool2d(2), nn.Conv2d(8, 16, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1)),
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.layers(x).flatten(1))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 24))
        self.places = nn.Parameter(torch.randn(1, 17, 24))
        self.norm, self.qkv = nn.LayerNorm(24), nn.Linear(24, 72)
        self.mlp = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        b, n, c = x.shape
        q, k, v = (
            self.qkv(self.norm(x)).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        )
        a = (q @ k.transpose(-2, -1) * 0.3).softmax(-1)
        x = x + (a @ v).transpose(1, 2).reshape(b, n, c)
        return (x + self.mlp(x))[:, 0]


class Language(nn.Module):
    """Token embedding, RMSNorm in parts, rotary angles, a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.scale = nn.Parameter(torch.ones(16))
        self.qkv, self.head = nn.Linear(16, 48, bias=False), nn.Linear(16, 20, bias=False)
        angles = torch.outer(torch.arange(32).float(), 10000 ** -(torch.arange(0, 8, 2) / 8))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids):
        x = self.words(ids)
        b, n, _ = x.shape
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.scale
        q, k, v = self.qkv(y).view(b, n, 3, 2, 8).permute(2, 0, 3, 1, 4)
        q, k = (self.turned(t, n) for t in (q, k))
        mask = torch.full((n, n), float("-inf")).triu(1)
        a = (q @ k.transpose(-2, -1) / 8**0.5 + mask).softmax(-1)
        return self.head(x + (a @ v).transpose(1, 2).reshape(b, n, -1))

    def turned(self, x, n):
        a, b = x[..., 0::2], x[..., 1::2]
        cos, sin = self.cos[:n], self.sin[:n]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


class Encoder(nn.Module):
    """BERT's way: position embedding, a mask from an input, submodules called `self`."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 24), nn.Embedding(40, 24)
        self.attention = nn.ModuleDict({"self": nn.ModuleDict({"query": nn.Linear(24, 24)})})
        self.norm = nn.LayerNorm(24, eps=1e-12)

    def forward(self, ids, kept):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))[None]
        q = self.attention["self"]["query"](x)
        mask = (1 - kept[:, None, :].float()) * -1e9
        x = self.norm(x + (q @ x.transpose(1, 2) + mask).softmax(-1) @ x)
        kept = kept[:, :, None].float()
        return F.normalize((x * kept).sum(1) / kept.sum(1).clamp(min=1e-9), dim=-1)


class Resolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.slope = nn.Conv2d(3, 12, 3, padding=1), nn.PReLU(12)

    def forward(self, x):
        return F.pixel_shuffle(self.slope(self.conv(x)) + x.repeat_interleave(4, 1), 2)


class Upsampling(nn.Module):
    """Several outputs; normalization over groups, resizing, transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4)
        self.up = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        y = F.gelu(self.norm(self.conv(x)), approximate="tanh")
        y = F.interpolate(y, scale_factor=2, mode="bilinear")
        return self.up(y).mean((2, 3)), F.interpolate(y, size=(7, 9)), F.avg_pool2d(y, 3, 2, 1)


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).flatten(2)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(6, 8, batch_first=True, bidirectional=True)
        self.second = nn.GRU(16, 5, batch_first=True)

    def forward(self, x):
        return self.second(self.first(x)[0])[0]


def image(batch, size=16):
    return (torch.randn(batch, 3, size, size),)


def tokens(batch):
    return (torch.randint(0, 20, (batch, 6)),)


def sequence(batch):
    return (torch.randn(batch, 5, 16),)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "convolutional": (Convolutional, image),
    "transformer": (Transformer, image),
    "language": (Language, tokens),
    "encoder": (Encoder, lambda b: (*tokens(b), (torch.rand(b, 6) > 0.3).long())),
    "resolution": (Resolution, functools.partial(image, size=8)),
    "upsampling": (Upsampling, functools.partial(image, size=8)),
    "fused": (Fused, sequence),
    "recurrent": (Recurrent, lambda b: (torch.randn(b, 5, 6),)),
}
FAST = ("convolutional", "language")
NAMES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CASES]


@functools.cache
def exported(name: str) -> tuple[nn.Module, Any, torch.fx.GraphModule]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    make, inputs = CASES[name]
    net = make().eval()
    example = inputs(2)
    program = torch.onnx.export(
        net,
        example,
        dynamo=True,
        optimize=False,
        opset_version=20,
        dynamic_shapes=tuple({0: BATCH} for _ in example),
        verbose=False,
    )
    return net, inputs, to_torch(program.model)


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def assert_near(expected: Any, got: Any, steps: float = 64) -> None:
    """Equal up to a number of steps of the type at the largest element."""
    assert isinstance(got, type(expected))
    for one, other in zip(as_tuple(expected), as_tuple(got), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        allowed = steps * torch.finfo(one.dtype).eps * max(1.0, float(one.abs().max()))
        assert float((one - other).abs().max()) <= allowed


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_agree_for_every_batch(name):
    net, inputs, module = exported(name)
    for batch in (1, 2, 3):
        given = inputs(batch)
        with torch.no_grad():
            assert_near(net(*given), module(*given))


@pytest.mark.parametrize("name", NAMES)
def test_weights_keep_their_names_and_kinds(name):
    net, _, module = exported(name)
    assert dict(net.named_parameters()).keys() == dict(module.named_parameters()).keys()
    kept = {key for key in net.state_dict() if not key.endswith("num_batches_tracked")}
    assert module.state_dict().keys() - {"cos", "sin"} == kept
    missing, unexpected = module.load_state_dict(net.state_dict(), strict=False)
    assert set(missing) <= {"cos", "sin"}
    assert all(key.endswith("num_batches_tracked") for key in unexpected)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight(name):
    net, inputs, module = exported(name)
    given = inputs(3)
    for each in (net, module):
        each.zero_grad()
        sum(output.square().sum() for output in as_tuple(each(*given))).backward()
    expected = dict(net.named_parameters())
    for key, weight in module.named_parameters():
        assert weight.grad is not None
        assert weight.grad.isfinite().all()
        assert_near(expected[key].grad, weight.grad, steps=1024)


@pytest.mark.parametrize("name", NAMES)
def test_the_result_exports_again_with_a_dynamic_batch(name):
    net, inputs, module = exported(name)
    example = inputs(2)
    program = torch.export.export(
        module, example, dynamic_shapes=tuple({0: BATCH} for _ in example)
    )
    given = inputs(5)
    with torch.no_grad():
        assert_near(net(*given), program.module()(*given))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_the_result_compiles_as_one_graph(name):
    net, inputs, module = exported(name)
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    for batch in (2, 5):
        given = inputs(batch)
        with torch.no_grad():
            assert_near(net(*given), compiled(*given))


def test_origins_and_names_are_on_the_nodes():
    _, _, module = exported("convolutional")
    nodes = {node.name: node for node in module.graph.nodes}
    assert nodes["relu"].target is F.relu
    assert nodes["x"].op == "placeholder"
    assert {"conv2d", "hardswish", "linear"} <= nodes.keys()
    assert module.meta["onnx"]["inputs"] == ["x"]
    assert module.meta["onnx"]["initializers"]["layers.0.weight"] == "layers.0.weight"
