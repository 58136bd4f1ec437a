"""Real images, decoded once and kept in memory, as uint8 [N, 3, H, W] and labels [N]."""

import csv
import functools
import io
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from bench.zoo._entry import Batch
from bench.zoo._folder import folder

IMAGENET = "images/imagenet_sample"
CIFAR = "images/cifar10_test_jpeg_a.zip"

# Mean and deviation of ImageNet's channels, by which all networks here were trained.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]

CIFAR_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def spaced(count: int, limit: int | None) -> list[int]:
    """`limit` of the numbers below `count`, evenly spaced from 0; all of them without a limit."""
    wanted = count if limit is None else min(limit, count)
    return [i * count // wanted for i in range(wanted)]


def centre(image: Image.Image, size: int) -> Image.Image:
    """The square of `size` pixels in the middle, rounded as torchvision and timm do."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def pixels(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 [3, H, W]."""
    return np.asarray(image).transpose(2, 0, 1)


def normalized(images: np.ndarray) -> np.ndarray:
    """Images uint8 [B, 3, H, W] in the scale that the networks were trained in."""
    return (images.astype(np.float32) / 255 - MEAN) / DEVIATION


@functools.cache
def imagenet_labels() -> tuple[tuple[str, int], ...]:
    """File name and class of each image of the sample: one a class, in order of class."""
    with (folder() / IMAGENET / "labels.csv").open(encoding="utf-8", newline="") as file:
        return tuple((row["file"], int(row["class_index"])) for row in csv.DictReader(file))


def imagenet_image(name: str) -> Image.Image:
    """One image of the sample; its short side is 256."""
    with Image.open(folder() / IMAGENET / name) as image:
        return image.convert("RGB")


@functools.cache
def _imagenet_crop(name: str) -> np.ndarray:
    return pixels(centre(imagenet_image(name), 224))


def imagenet(limit: int | None, batch: int) -> Iterator[Batch]:
    """Centre crops of 224 pixels, normalized, and classes 0..999."""
    labels = imagenet_labels()
    chosen = spaced(len(labels), limit)
    for some in batches(chosen, batch):
        images = np.stack([_imagenet_crop(labels[i][0]) for i in some])
        yield Batch((normalized(images),), np.array([labels[i][1] for i in some]))


@functools.cache
def _cifar_archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO((folder() / CIFAR).read_bytes()))


@functools.cache
def _cifar_image(name: str) -> np.ndarray:
    with _cifar_archive().open(name) as file, Image.open(file) as image:
        return pixels(image.convert("RGB"))


def cifar(limit: int | None, batch: int) -> Iterator[Batch]:
    """Images of 32 pixels, normalized, and classes 0..9: a first of each class, then a second."""
    count = len(_cifar_archive().namelist())
    wanted = range(count if limit is None else min(limit, count))
    for some in batches(wanted, batch):
        turns = [divmod(i, len(CIFAR_CLASSES)) for i in some]
        images = np.stack([_cifar_image(f"{CIFAR_CLASSES[k]}/{n:04d}.jpg") for n, k in turns])
        yield Batch((normalized(images),), np.array([k for _, k in turns]))


def batches(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Consecutive parts of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def top1(outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> dict[str, float]:
    """Percentage of logits [B, classes] whose largest is the target's."""
    hits = [classes(o) == t for o, t in zip(outputs, targets, strict=True)]
    return {"top1": 100 * float(np.concatenate(hits).mean())}


def classes(logits: np.ndarray) -> np.ndarray:
    """The class of the largest of the logits [..., classes]."""
    return logits.argmax(axis=-1)
