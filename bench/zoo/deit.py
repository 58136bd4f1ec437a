"""DeiT-Tiny: a vision transformer of 12 blocks and 5.7 M weights, on the ImageNet sample.

Source: Touvron et al., "Training data-efficient image transformers", 2020 (arXiv 2012.12877). In
this checkpoint the gains and biases of the norms are rounded to multiples of 2^-5 and 2^-6.
"""

import safetensors.torch
from torch.export import Dim

from addax.demo.vit import VisionTransformer
from bench.zoo._entry import Entry, Sanity
from bench.zoo._folder import folder, needs
from bench.zoo._images import IMAGENET, classes, imagenet, top1

WEIGHTS = "models/deit_tiny_patch16_224.safetensors"


def deit_tiny() -> VisionTransformer:
    """The trained network: x[B, 3, 224, 224] -> logits [B, 1000]."""
    model = VisionTransformer(
        image=224, patch=16, channels=3, classes=1000, dim=192, depth=12, heads=3, hidden=768
    )
    model.load_state_dict(safetensors.torch.load_file(folder() / WEIGHTS))
    return model.eval()


ENTRIES = (
    Entry(
        name="deit-tiny",
        build=deit_tiny,
        data=imagenet,
        dynamic_shapes=({0: Dim("batch")},),
        decide=classes,
        score=top1,
        sanity=Sanity("top1", 76.8, tolerance=0.2),
        missing=needs(WEIGHTS, IMAGENET),
    ),
)
