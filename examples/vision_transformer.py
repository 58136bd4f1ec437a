"""A trained vision transformer: exact rewrites first, then weights of 4 bits. Runs in a minute."""

import torch

import addax
from addax.demo import load_images, load_model


def main() -> None:
    """Print the accuracy and the bytes of each form; write the last as ONNX."""
    model = load_model()  # or timm.create_model("vit_tiny_patch16_224", pretrained=True).eval()
    images, labels = (torch.from_numpy(array) for array in load_images("test"))
    calibration, _ = load_images("calibration")

    exact = addax.optimize(model, images[:2], dynamic_shapes={0: "batch"})
    small = addax.optimize(
        model,
        images[:2],
        dynamic_shapes={0: "batch"},
        allow=("shift-add",),
        calibration=[calibration[i : i + 32] for i in range(0, 128, 32)],
        bits=4,
    )
    for name, fast in (("exact", exact), ("4 bits", small)):
        right = (fast(images).argmax(1) == labels).float().mean()
        print(f"{name}: {right:.1%} right, {fast.report.after.weight_bytes:,} bytes of weights")
    small.save("digits.onnx")


if __name__ == "__main__":
    main()
