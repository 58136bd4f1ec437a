"""Feed-forward parts as mixtures of an expert that multiplies and one that shifts, trained."""

import sys

import torch
from torch.nn import functional

import addax
from addax.demo import load_images, load_model
from addax.frontend.layers import Mixture, balance_loss, convert, expert_latencies, freeze


def main(steps: int = 100) -> None:
    """Train for some steps, freeze, and write what runs."""
    images, labels = (torch.from_numpy(array) for array in load_images("calibration"))
    mixture = Mixture(latencies=expert_latencies(64, 128))
    model = convert(load_model(), {"blocks.*.mlp": mixture}).model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        batch = torch.randint(0, len(images), (32,))
        loss = functional.cross_entropy(model(images[batch]), labels[batch])
        loss = loss + 0.01 * balance_loss(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss:.3f}")

    tests, truth = (torch.from_numpy(array) for array in load_images("test"))
    fast = addax.optimize(freeze(model.eval()), tests[:2], dynamic_shapes={0: "batch"})
    print(f"{(fast(tests).argmax(1) == truth).float().mean():.1%} right")
    fast.save("mixture.onnx")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
