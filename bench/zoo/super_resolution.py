"""Super resolution by two, one function as two networks: with a global residual, and without.

Source: Zhang et al., "Edge-oriented Convolution Block", ACM MM 2021 (ECBSR), and Chao et al.,
"Equivalent Transformation and Dual Stream Network", CVPR 2023, which turned the first network into
the second, whose backbone carries the residual through channels of its own. The second ends in two
ReLUs that clip the image to 0..1; the first leaves that to its user.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from bench.zoo._entry import Batch, Entry, Sanity
from bench.zoo._folder import folder, needs
from bench.zoo._images import (
    IMAGENET,
    batches,
    centre,
    imagenet_image,
    imagenet_labels,
    pixels,
    spaced,
)

RESIDUAL = "models/ecbsr_pair/ECBSR_M4C16_x2.pth"
PLAIN = "models/ecbsr_pair/ECBSR_ET_M4C16_x2.pth"
SCALE = 2
SMALL = 96
# Pixels at the border are not judged: they depend on padding.
BORDER = 4


class SuperResolution(nn.Module):
    """Enlarges images x[B, 3, H, W] in 0..1 to [B, 3, 2 H, 2 W].

    A chain of convolutions, each with a PReLU or an activation of its own, computes the four pixels
    that stand for one. With `residual` they are differences from it.

    Args:
        channels: of each map, from the image's 3 to the 12 of four pixels.
        sizes: width of each convolution's kernel.
        activations: `PReLU`, `ReLU` or none after each.
        residual: whether the image is added to its enlargement.
    """

    def __init__(
        self,
        channels: Sequence[int],
        sizes: Sequence[int],
        activations: Sequence[str],
        *,
        residual: bool,
    ) -> None:
        super().__init__()
        layers = []
        for i, (size, activation) in enumerate(zip(sizes, activations, strict=True)):
            layer = nn.Sequential(nn.Conv2d(channels[i], channels[i + 1], size, padding=size // 2))
            if activation == "PReLU":
                layer.append(nn.PReLU(channels[i + 1]))
            elif activation == "ReLU":
                layer.append(nn.ReLU())
            layers.append(layer)
        self.backbone = nn.Sequential(*layers)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge x[B, 3, H, W]."""
        y: Tensor = self.backbone(x)
        if self.residual:
            y = y + x.repeat_interleave(SCALE**2, dim=1)
        return functional.pixel_shuffle(y, SCALE)


def with_residual() -> SuperResolution:
    """The network as it was trained: six convolutions and a global residual."""
    activations = ["PReLU"] * 5 + [""]
    model = SuperResolution([3, *[16] * 5, 12], [3] * 6, activations, residual=True)
    return _loaded(model, RESIDUAL)


def without_residual() -> SuperResolution:
    """Its equivalent: wider convolutions, one more of 1 x 1, and no residual."""
    activations = ["PReLU"] * 5 + ["ReLU", "ReLU"]
    model = SuperResolution([3, *[20] * 5, 12, 12], [3] * 6 + [1], activations, residual=False)
    return _loaded(model, PLAIN)


def _loaded(model: SuperResolution, name: str) -> SuperResolution:
    model.load_state_dict(torch.load(folder() / name, map_location="cpu", weights_only=True))
    return model.eval()


@functools.cache
def _pair(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A small image and its original, uint8 [3, H, W] and [3, 2 H, 2 W]."""
    large = centre(imagenet_image(name), SCALE * SMALL)
    return pixels(large.resize((SMALL, SMALL), Image.Resampling.BICUBIC)), pixels(large)


def pairs(limit: int | None, batch: int) -> Iterator[Batch]:
    """Images of 96 pixels in 0..1, and their originals of 192 as uint8."""
    labels = imagenet_labels()
    for some in batches(spaced(len(labels), limit), batch):
        small, large = zip(*(_pair(labels[i][0]) for i in some), strict=True)
        yield Batch((np.stack(small).astype(np.float32) / 255,), np.stack(large))


def levels(images: np.ndarray) -> np.ndarray:
    """What a screen shows of images in 0..1: 8-bit levels."""
    return np.rint(images * 255).clip(0, 255).astype(np.uint8)


def psnr(outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean over images of 10 log10(255^2 / mean squared error), in decibels."""
    inner = slice(BORDER, -BORDER)
    found = []
    for output, target in zip(outputs, targets, strict=True):
        error = (output * 255).clip(0, 255) - target
        squares = np.mean(error[:, :, inner, inner] ** 2, axis=(1, 2, 3), dtype=np.float64)
        found.append(10 * np.log10(255**2 / squares))
    return {"psnr": float(np.concatenate(found).mean())}


ENTRIES = tuple(
    Entry(
        name=name,
        build=build,
        data=pairs,
        dynamic_shapes=({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},),
        decide=levels,
        score=psnr,
        sanity=Sanity("psnr", 31.50, tolerance=0.005, limit=25),
        missing=needs(weights, IMAGENET),
    )
    for name, build, weights in (
        ("ecbsr-residual", with_residual, RESIDUAL),
        ("ecbsr-plain", without_residual, PLAIN),
    )
)
