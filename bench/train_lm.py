"""Train a Llama of 5.6 million weights: `python -m bench.train_lm [--quick] [--out FOLDER]`.

The network and its text are `bench.zoo.prose`. The same seed, steps and machine give the same
bytes, in one go or in several: each step draws its windows of text from the seed and its own number
alone, and with `--out` the run is saved every 200 steps and goes on where it was. `--minutes` stops
it early without changing what the remaining steps will do. One thread, products in bfloat16,
weights in float32; the final weights are taken, no step is selected by the held-out text.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from bench.measure import arguments, emit_json, table
from bench.zoo import prose, tinystories

STEPS, QUICK_STEPS = 2000, 10
WARM_UP = 100
BATCH, RATE, DECAY, CLIP = 8, 2e-3, 0.1, 1.0
SAVED_EVERY = 200
STATE = "training.pt"


@dataclass
class Run:
    """A training that can be saved after any step; `losses` has the mean of each saved stretch."""

    model: tinystories.Llama
    optimizer: torch.optim.Optimizer
    step: int
    losses: list[float]

    def save(self, path: Path) -> None:
        """Write all that the remaining steps depend on; an interrupted write changes nothing."""
        state: dict[str, Any] = {"model": self.model.state_dict(), "step": self.step}
        state |= {"optimizer": self.optimizer.state_dict(), "losses": self.losses}
        half = path.with_suffix(".half")
        torch.save(state, half)
        half.replace(path)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.losses = state["step"], state["losses"]


def begin(seed: int) -> Run:
    """An untrained network, normally distributed weights of deviation 0.02, and its optimizer."""
    torch.manual_seed(seed)
    model = prose.untrained()
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            # What is added to the residual stream shrinks with the number of additions.
            added = name.endswith(("wo.weight", "w2.weight"))
            deviation = 0.02 / math.sqrt(2 * len(model.blocks)) if added else 0.02
            torch.nn.init.normal_(weight, std=deviation)
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    gains = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": gains, "weight_decay": 0.0}]
    return Run(model, torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95)), 0, [])


def rate(step: int, steps: int) -> float:
    """A linear rise, then half a cosine down to a twentieth."""
    rise = min(1.0, (step + 1) / WARM_UP)
    return RATE * rise * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def windows(tokens: np.ndarray, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """The tokens and next tokens [BATCH, WINDOW] of one step."""
    starts = np.random.default_rng([seed, step]).integers(0, len(tokens) - prose.WINDOW, BATCH)
    chosen = torch.from_numpy(tokens[starts[:, None] + np.arange(prose.WINDOW + 1)])
    return chosen[:, :-1], chosen[:, 1:]


def loss_of(model: tinystories.Llama, tokens: Tensor, wanted: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
    return functional.cross_entropy(logits.float().flatten(0, 1), wanted.flatten())


def advance(run: Run, seed: int, steps: int, minutes: float, state: Path | None) -> None:
    """Train until `steps` are done or the time is up."""
    tokens = prose.training_tokens()
    stop = time.monotonic() + 60 * minutes
    recent: list[float] = []
    run.model.train()
    for step in track(range(run.step, steps), "training", console=Console(stderr=True)):
        for group in run.optimizer.param_groups:
            group["lr"] = rate(step, steps)
        loss = loss_of(run.model, *windows(tokens, seed, step))
        run.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), CLIP)
        run.optimizer.step()
        run.step = step + 1
        recent.append(loss.item())
        if run.step % SAVED_EVERY == 0 or run.step == steps:
            run.losses.append(float(np.mean(recent)))
            recent.clear()
            if state is not None:
                run.save(state)
            # Stopping elsewhere would lose steps that another run must repeat.
            if time.monotonic() > stop:
                break
    run.model.eval()


@torch.no_grad()
def perplexity(model: tinystories.Llama, limit: int | None) -> float:
    """Perplexity a token on text that did not train."""
    outputs, targets = [], []
    for (tokens,), wanted in prose.held_out(limit, batch=8):
        outputs.append(model(torch.from_numpy(tokens)).numpy())
        targets.append(wanted)
    return tinystories.surprise(outputs, targets)["perplexity"]


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = arguments("train_lm", "Train a small language model on the text of the data folder.")
    made.add_argument("--out", type=Path, help="checkpoint and state of the run go to this folder")
    made.add_argument("--minutes", type=float, default=math.inf, help="stop after, to be continued")
    made.add_argument("--steps", type=int, help=f"default {STEPS}")
    return made


def main(argv: list[str] | None = None) -> None:
    """Train, go on training, or only judge what is trained already."""
    options = parser().parse_args(argv)
    torch.set_num_threads(1)
    steps = options.steps or (QUICK_STEPS if options.quick else STEPS)
    run = begin(options.seed)
    state = None
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        state = options.out / STATE
        if state.exists():
            run.load(state)
    first, start = run.step, time.perf_counter()
    advance(run, options.seed, steps, options.minutes, state)
    seconds = time.perf_counter() - start
    figures: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in run.model.parameters()),
        "training_tokens": len(prose.training_tokens()),
        "steps": run.step,
        "of_steps": steps,
        "seconds_a_step": seconds / max(run.step - first, 1),
        "held_out_perplexity": perplexity(run.model, 6 if options.quick else None),
    }
    table("language model", [{"figure": k, "value": v} for k, v in figures.items()])
    if options.out is not None and run.step == steps:
        path = options.out / prose.CHECKPOINT
        path.write_bytes(safetensors.torch.save(run.model.state_dict()))
    emit_json("train_lm", figures | {"losses": run.losses}, seed=options.seed)


if __name__ == "__main__":
    main()
