"""What ships with the package: a checkpoint, images, and what they are said to be."""

import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
import torch

from addax.demo import SPLITS, load_images, load_model
from addax.errors import OptionError


@torch.no_grad()
def predictions(images: np.ndarray) -> np.ndarray:
    return load_model()(torch.from_numpy(images)).argmax(dim=1).numpy()


def test_reads_held_out_digits() -> None:
    images, labels = load_images("test")
    assert (predictions(images) == labels).mean() >= 0.985


@pytest.mark.parametrize(("split", "count"), [("test", 360), ("calibration", 256)])
def test_images_are_as_documented(split: str, count: int) -> None:
    images, labels = load_images(split)
    assert (images.shape, images.dtype) == ((count, 1, 8, 8), np.float32)
    assert (labels.shape, labels.dtype) == ((count,), np.int64)
    assert (images.min(), images.max()) == (0, 1)
    assert set(labels) == set(range(10))


def test_splits_share_no_image() -> None:
    test, calibration = ({image.tobytes() for image in load_images(split)[0]} for split in SPLITS)
    assert test & calibration == set()


def test_images_are_the_split_that_the_training_draws() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from bench.train_digits import CALIBRATION, split, tensors

    digits = split()
    drawn = {
        "test": tensors(digits.test_levels, digits.test_labels),
        "calibration": tensors(
            digits.train_levels[:CALIBRATION], digits.train_labels[:CALIBRATION]
        ),
    }
    for name, (images, labels) in drawn.items():
        shipped, answers = load_images(name)
        np.testing.assert_array_equal(shipped, images.numpy())
        np.testing.assert_array_equal(answers, labels.numpy())


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(OptionError, match="expected split to be one of test, calibration; got 'x'"):
        load_images("x")


def test_model_is_ready_to_use() -> None:
    model = load_model()
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_all_of_it_is_under_a_megabyte() -> None:
    sizes = [item.stat().st_size for item in files("addax.demo").iterdir() if item.is_file()]
    assert sum(sizes) < 1_000_000


def test_needs_no_training_library() -> None:
    code = "import sys, addax.demo as d; d.load_model(), d.load_images(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"sklearn", "PIL", "onnxruntime", "tvm"} & set(run.stdout.split()) == set()
