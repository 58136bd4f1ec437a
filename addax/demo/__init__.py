"""The demo: a small trained vision transformer and real images, shipped with the package.

The model classifies the handwritten digits of the UCI repository (Alpaydin and Kaynak, 1998, as
scikit-learn packs them: 1797 images of 8 x 8 pixels, 17 levels of grey). 360 images, drawn with a
fixed seed, were held out: nothing of them was used in training or in choosing its settings. 256 of
the other 1437 are here for calibration. `bench/train_digits.py` made the checkpoint and the images.
"""

import json
from importlib.resources import as_file, files

import numpy as np
import safetensors
import safetensors.torch
from numpy.typing import NDArray

from addax.demo.vit import DigitsViT
from addax.errors import OptionError

__all__ = ["SPLITS", "DigitsViT", "load_images", "load_model"]

SPLITS = ("test", "calibration")

# The grey levels of an image are 0..16.
WHITE = np.float32(16)


def load_model() -> DigitsViT:
    """The trained transformer, in evaluation mode, in float32."""
    with as_file(files(__package__) / "digits_vit.safetensors") as path:
        with safetensors.safe_open(path, framework="pt") as checkpoint:
            sizes = json.loads(checkpoint.metadata()["sizes"])
        model = DigitsViT(**sizes)
        model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()


def load_images(split: str = "test") -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images float32 [N, 1, 8, 8] in 0..1 and labels int64 [N] in 0..9.

    Args:
        split: `test` (360 held-out images) or `calibration` (256 of the training images).

    Raises:
        OptionError: `split` is neither of the two.
    """
    if split not in SPLITS:
        raise OptionError(f"expected split to be one of {', '.join(SPLITS)}; got {split!r}")
    with (files(__package__) / "digits_images.npz").open("rb") as file, np.load(file) as arrays:
        levels, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    return levels[:, None].astype(np.float32) / WHITE, labels.astype(np.int64)
