"""The rivals and the judge of few-bit weights: what a bench says of others must be true."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import addax
from addax.backends.to_ort import to_ort
from addax.runtime.session import Session
from bench.weight_only import decoder, with_random_codes
from bench.weight_only._gptq import gptq
from bench.weight_only._layers import linears, output_error, second_moments, with_weights
from bench.weight_only._nearest import grid, round_to_nearest, uniform_bytes
from bench.zoo import tinystories

SIZES = {"dim": 64, "layers": 2, "heads": 4, "groups": 2, "hidden": 96, "vocabulary": 40}


def layer(rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weights, and second moments of inputs that depend on each other."""
    draw = np.random.default_rng(seed)
    mix = 0.95 ** np.arange(columns)[:, None] * draw.standard_normal((columns, columns))
    inputs = draw.standard_normal((4 * columns, columns)) @ mix
    weights = torch.from_numpy(draw.standard_normal((rows, columns)))
    return weights, torch.from_numpy(inputs.T @ inputs / len(inputs))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 4]))
def test_no_other_level_is_nearer(seed: int, bits: int) -> None:
    weights, _ = layer(5, 32, seed)
    made = grid(weights, bits)
    levels = (torch.arange(2**bits) - made.zero) * made.scale
    best = (weights[:, :, None] - levels[:, None, :]).abs().amin(dim=2)
    assert torch.equal((made.nearest(weights) - weights).abs(), best)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 4]))
def test_a_clip_is_never_worse_than_the_whole_range(seed: int, bits: int) -> None:
    weights, _ = layer(5, 32, seed)
    whole, clipped = grid(weights, bits), grid(weights, bits, clip=True)
    errors = [(g.nearest(weights) - weights).square().sum(1) for g in (whole, clipped)]
    assert bool((errors[1] <= errors[0]).all())


def test_a_group_of_zeros_stays_zero() -> None:
    weights = torch.zeros(3, 64, dtype=torch.float64)
    assert torch.equal(round_to_nearest(weights, 2, 32), weights)
    assert torch.equal(gptq(weights, torch.eye(64, dtype=torch.float64), 2, 32), weights)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_gptq_is_far_better_than_the_nearest(bits: int) -> None:
    weights, moments = layer(48, 128, bits)
    plain = output_error(weights, round_to_nearest(weights, bits, 32), moments)
    assert output_error(weights, gptq(weights, moments, bits, 32), moments) < 0.5 * plain


def test_gptq_of_independent_inputs_is_the_nearest_level_of_the_clipped_grid() -> None:
    weights, _ = layer(8, 64, 0)
    moments = torch.eye(64, dtype=torch.float64)
    parts = weights.split(32, dim=1)
    nearest = torch.cat([grid(p, 3, clip=True).nearest(p) for p in parts], dim=1)
    assert torch.allclose(nearest, gptq(weights, moments, 3, 32), rtol=0, atol=1e-12)


def test_gptq_gives_dead_inputs_a_level() -> None:
    weights, moments = layer(8, 64, 0)
    moments[5], moments[:, 5] = 0, 0
    assert bool(gptq(weights, moments, 2, 32).isfinite().all())


def test_bytes_of_uniform_codes() -> None:
    assert uniform_bytes(4, 64, 2, 32) == (4 * 64 * 2 + 4 * 2 * (16 + 2)) // 8


def test_second_moments_and_output_error_are_of_the_outputs() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5, bias=False))
    x = torch.randn(7, 6)
    parts = linears(model)
    moments = second_moments(model, parts, [(x[:3],), (x[3:],)])
    assert torch.allclose(x.double().T @ x.double() / 7, moments["0"], atol=1e-6)
    other = with_weights(model, {"0": torch.zeros(5, 6)})
    assert output_error(model[0].weight, other[0].weight.detach(), moments["0"]) == pytest.approx(1)


def test_a_decoder_says_what_the_whole_network_says() -> None:
    torch.manual_seed(0)
    model = tinystories.Llama(**SIZES).eval()
    module = decoder.Decoder(model)

    @torch.no_grad()
    def step(arrays: list[np.ndarray]) -> list[np.ndarray]:
        token, position, *past = map(torch.from_numpy, arrays)
        return [part.numpy() for part in module(token, position, past)]

    written = decoder.generate(step, model, [1, 7, 3], 9)
    tokens = [1, 7, 3]
    for _ in range(9):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    assert written == tokens[3:]


def test_random_codes_take_the_place_of_all_layers_but_the_head() -> None:
    model = tinystories.Llama(**SIZES).eval()
    module, example = decoder.Decoder(model).eval(), decoder.example(model)
    shapes = decoder.dynamic_shapes(model)
    exact = addax.optimize(module, example, dynamic_shapes=shapes, progress=False)
    before = [node for node in exact.model.graph if node.op_type == "MatMul"]
    feeds = [example[0].numpy(), example[1].numpy(), *(part.numpy() for part in example[2])]
    for kind, bits in (("binary", 3), ("codebook", 2), ("codebook", 4)):
        made = with_random_codes(exact.model, kind, bits)
        ours = [node for node in made.graph if node.domain == "addax"]
        # Products of two activations, two a layer, stay as the head does.
        assert len(before) - len(ours) == 2 * SIZES["layers"] + 1
        session = Session(to_ort(made), threads=1)
        names = [port.name for port in session.inputs]
        logits = next(iter(session.run(dict(zip(names, feeds, strict=True))).values()))
        assert bool(np.isfinite(logits).all())
