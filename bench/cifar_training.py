"""Small vision transformers on CIFAR-10 images: tokens that show something.

The data folder has 5000 test images of CIFAR-10, as JPEGs, 500 of each class, and none of its
50,000 for training. The first 400 of each class train, the other 100 judge: 1000 images, one
standard error is about one and a half points. So few images train no good classifier (published
networks see ten times as many); what a step costs shows all the same.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from addax.demo.vit import VisionTransformer
from bench import zoo
from bench.digit_training import Task

TRAINED, ALL = 4000, 5000
EDGE = 4  # pixels that training moves an image by, at most
SIDE, PATCH = 32, 4


@functools.cache
def task() -> Task:
    """The images in their fixed split, a first of each class, then a second, and so on.

    Raises:
        FileNotFoundError: the images are not on this machine.
    """
    entry = zoo.entry("cifar-resnet20")
    batches = list(entry.data(ALL, 500))
    images = torch.cat([torch.from_numpy(batch.inputs[0]) for batch in batches])
    labels = torch.cat([torch.from_numpy(batch.targets) for batch in batches])
    return Task(images[:TRAINED], labels[:TRAINED], images[TRAINED:], labels[TRAINED:], drawn=moved)


def moved(images: Tensor) -> Tensor:
    """Each image [B, 3, 32, 32] mirrored or not, and moved by up to 4 pixels; 0 comes in."""
    count = len(images)
    mirrored = torch.where(torch.rand(count, 1, 1, 1) < 0.5, images.flip(-1), images)
    wide = functional.pad(mirrored, (EDGE,) * 4)
    windows = wide.unfold(2, SIDE, 1).unfold(3, SIDE, 1)
    down, right = torch.randint(2 * EDGE + 1, (2, count)).unbind(0)
    return windows[torch.arange(count), :, down, right]


def untrained(seed: int, **sizes: Any) -> VisionTransformer:
    """A network of 64 patches of 4 x 4 pixels, its weights drawn by the seed."""
    torch.manual_seed(seed)
    model = VisionTransformer(image=SIDE, patch=PATCH, channels=3, classes=10, **sizes)
    nn.init.normal_(model.cls_token, std=0.02)
    nn.init.normal_(model.pos_embed, std=0.02)
    return model
