"""`python -m addax.demo`: the main job on the digits transformer that ships with addax.

Optimizes it, prints the report, and the accuracy before and after on real held-out images.
"""

import sys

import numpy as np
import torch
from rich.console import Console

import addax
from addax.demo import load_images, load_model


def main() -> None:
    """Optimize, report, compare."""
    console = Console()
    model = load_model()
    images, labels = load_images("test")
    batch = torch.export.Dim("batch")
    fast = addax.optimize(model, torch.from_numpy(images[:2]), dynamic_shapes=({0: batch},))
    console.print(fast.report)
    with torch.no_grad():
        before = model(torch.from_numpy(images)).numpy()
    after = np.asarray(fast(images))
    agree = int((before.argmax(1) == after.argmax(1)).sum())
    error = np.abs(after - before).max() / np.abs(before).max()
    console.print(f"accuracy before  {(before.argmax(1) == labels).mean():.4f}")
    console.print(f"accuracy after   {(after.argmax(1) == labels).mean():.4f}")
    console.print(
        f"same prediction  {agree} of {len(labels)} held-out images; "
        f"largest relative difference of the logits {error:.1e}"
    )
    if agree != len(labels):
        sys.exit("the optimized model predicts differently")


if __name__ == "__main__":
    main()
