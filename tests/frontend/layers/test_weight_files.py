"""Converted networks load and save their weights as any module of torch does."""

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model

from addax.demo.vit import DigitsViT
from addax.frontend.layers import (
    BinaryAttention,
    Branches,
    IdleChannels,
    LowRank,
    Mixture,
    Shifts,
    convert,
)

PLANS = {
    "branches": Branches(2),
    "idle": IdleChannels(0.5),
    "low rank": LowRank(2),
    "bits": {"blocks.*.attn": BinaryAttention()},
    "shifts": {"blocks.*.mlp.*": Shifts()},
    "mixture": {"blocks.*.mlp": Mixture()},
}


def build(name: str, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = DigitsViT(dim=16, depth=2, heads=2, hidden=32).eval()
    return convert(model, PLANS[name]).model.eval()


@pytest.mark.parametrize("name", PLANS)
def test_weights_come_back_from_files(name, tmp_path):
    trained, x = build(name, 0), torch.randn(2, 1, 8, 8)
    for parameter in trained.parameters():  # as training would leave them
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    path = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in trained.state_dict().items()}, path)
    by_state, by_model, by_torch = (build(name, seed) for seed in (1, 2, 3))
    by_state.load_state_dict(load_file(path))
    save_model(trained, tmp_path / "model.safetensors")
    load_model(by_model, tmp_path / "model.safetensors")
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    by_torch.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    for other in (by_state, by_model, by_torch):
        assert torch.equal(trained(x), other(x))
