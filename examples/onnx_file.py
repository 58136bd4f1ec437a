"""An ONNX file: optimized, proved to be the same function, written, and run by ONNX Runtime."""

import sys

import numpy as np
import onnxruntime
import torch

import addax
from addax.demo import load_images, load_model


def main(path: str | None = None) -> None:
    """Optimize the file at `path`; without one, an export of the demo's network."""
    if path is None:
        path = "digits.onnx"
        torch.onnx.export(load_model(), (torch.zeros(1, 1, 8, 8),), path, verbose=False)
    fast = addax.optimize(path, verify=True)
    print(fast.report)
    fast.save("fast.onnx")

    session = onnxruntime.InferenceSession("fast.onnx")
    port = session.get_inputs()[0]
    images, _ = load_images("test")
    (logits,) = session.run(None, {port.name: images[:1]})
    print(f"{port.name}{port.shape} -> class {np.argmax(logits)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
