"""Which expert each token went to: in numbers, and drawn over the images."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from addax.frontend.layers import MixtureFeedForward

SHOWN = 8  # images in a picture
_TINT, _TINTED = (0.20, 0.35, 0.80), 0.7  # colour of what the Shift expert computes; how strong


@torch.no_grad()
def choices(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """For each mixture, whether each token [B, T] of the images goes to the Mult expert."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.router.register_forward_hook(
            lambda _, __, made, name=name: seen.__setitem__(name, made[0] == 0)
        )
        for name, module in model.named_modules()
        if isinstance(module, MixtureFeedForward)
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return seen


def shares(model: nn.Module, images: Tensor) -> list[dict[str, Any]]:
    """Per cent of the images whose patch goes to Mult: a line for each row of patches."""
    parts = {name: 100 * mult.double().mean(dim=0) for name, mult in choices(model, images).items()}
    rows: list[dict[str, Any]] = [
        {
            "patches": "class token",
            **{name: f"{float(part[0]):.0f}" for name, part in parts.items()},
        }
    ]
    side = math.isqrt(len(next(iter(parts.values()))) - 1)
    for row in range(side):
        line = slice(1 + row * side, 1 + (row + 1) * side)
        cells = {n: " ".join(f"{float(v):3.0f}" for v in part[line]) for n, part in parts.items()}
        rows.append({"patches": f"row {row}", **cells})
    return rows


def draw(model: nn.Module, images: Tensor, path: Path) -> None:
    """Write a picture: a row for each image, a column for each mixture.

    Patches that the Mult expert computes are as they are, the Shift expert's are blue; under each
    is the share of Mult among its patches, and where the class token went. The last row has the
    shares over all images.

    Args:
        model: the network, with mixtures in its blocks.
        images: of which a few are drawn, and all counted.
        path: of the picture; the ending says what kind.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    chosen = choices(model, images)
    shown = [i * len(images) // SHOWN for i in range(SHOWN)]
    figure, axes = pyplot.subplots(
        SHOWN + 1,
        len(chosen) + 1,
        figsize=(1.5 * (len(chosen) + 1), 1.75 * (SHOWN + 1)),
        squeeze=False,
    )
    for row, index in zip(axes, shown, strict=False):
        pixels = _visible(images[index])
        row[0].imshow(pixels)
        for cell, mult in zip(row[1:], chosen.values(), strict=True):
            cell.imshow(_tinted(pixels, mult[index, 1:]))
            token = "Mult" if mult[index, 0] else "Shift"
            cell.set_xlabel(f"{float(mult[index, 1:].double().mean()):.0%}, class {token}", size=7)
    axes[-1][0].text(
        0.5, 0.5, f"to Mult, of\n{len(images)} images", ha="center", va="center", size=8
    )
    for cell, mult in zip(axes[-1][1:], chosen.values(), strict=True):
        mean = mult[:, 1:].double().mean(dim=0)
        cell.imshow(_square(mean), cmap="viridis", vmin=0, vmax=1)
        cell.set_xlabel(f"{float(mult.double().mean()):.0%} of all tokens", size=7)
    for cell, title in zip(axes[0], ("image", *chosen), strict=True):
        cell.set_title(title, size=8)
    for cell in axes.flat:
        cell.set_xticks([])
        cell.set_yticks([])
        cell.set_frame_on(False)
    figure.suptitle("as it is: the Mult expert; blue: the Shift expert", size=9)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _visible(image: Tensor) -> np.ndarray:
    """An image [C, H, W], of one channel or three, as colours [H, W, 3] in 0..1."""
    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / max(high - low, 1e-6)
    return scaled.expand(3, -1, -1).permute(1, 2, 0).numpy()


def _tinted(pixels: np.ndarray, mult: Tensor) -> np.ndarray:
    """An image whose patches are blue where `mult` [patches] does not hold."""
    shift = np.where(_square(mult), 0.0, _TINTED)
    size = len(pixels) // len(shift)
    strength = shift.repeat(size, axis=0).repeat(size, axis=1)[..., None]
    return pixels * (1 - strength) + np.array(_TINT) * strength


def _square(values: Tensor) -> np.ndarray:
    """Numbers of the patches [N] as the square of patches that they are."""
    side = math.isqrt(len(values))
    return values.reshape(side, side).numpy()
