"""Instruction sets agree bit for bit where both fuse products with sums, or neither does."""

import pytest

from tests.backends.kernels import test_binary_attention as binary_attention
from tests.backends.kernels import test_float_matmul as float_matmul
from tests.backends.kernels import test_linear as linear
from tests.backends.kernels import test_log_code_attention as log_code_attention
from tests.backends.kernels.layers import Shape
from tests.backends.kernels.machines import machine

SHAPES = [Shape(3, 70, 200, 64), Shape(9, 129, 129, 32), Shape(33, 64, 500, 128)]


@pytest.fixture(
    params=[("avx2", "avx512"), ("avx2", "neon"), ("neon", "neondot"), ("scalar", "nomul")],
    ids="-".join,
)
def pair(request):
    return [machine(name) for name in request.param]


@pytest.mark.parametrize("seed", range(len(SHAPES)))
def test_linear_layers(pair, seed):
    shape = SHAPES[seed]
    variant = linear.Variant(linear.floats(shape, seed), shape, linear.layers(shape, seed))
    left, right = (linear.products(one, variant)[0] for one in pair)
    assert [] == linear.different(left, right)


@pytest.mark.parametrize("seed", range(len(SHAPES)))
def test_float_matmul(pair, seed):
    arrays = float_matmul.drawn(SHAPES[seed], seed)
    left, right = (float_matmul.multiplied(one, arrays, SHAPES[seed]) for one in pair)
    assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("mask", log_code_attention.MASKS)
def test_log_code_attention(pair, mask):
    form = log_code_attention.Form(33, 70, 40, 2, 5, 0.3, mask)
    arrays = log_code_attention.drawn(form, 0)
    left, right = (log_code_attention.attended(one, arrays, form) for one in pair)
    assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("taps", [1, 9])
def test_binary_attention(pair, taps):
    form = binary_attention.Form(33, 2, 48, 32, taps)
    arrays = binary_attention.drawn(form, 0)
    left, right = (binary_attention.attended(one, arrays, form) for one in pair)
    assert left.tobytes() == right.tobytes()
