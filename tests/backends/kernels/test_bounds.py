"""No kernel reads or writes beyond an array: behind each lies a page that nobody may touch."""

import ctypes
import faulthandler
import mmap
import os

import numpy as np
import pytest

from tests.backends.kernels import test_binary_attention as binary_attention
from tests.backends.kernels import test_float_matmul as float_matmul
from tests.backends.kernels import test_linear as linear
from tests.backends.kernels import test_log_code_attention as log_code_attention
from tests.backends.kernels.layers import Shape
from tests.backends.kernels.machines import Native

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and mprotect")

SHAPES = [Shape(1, 1, 1, 32), Shape(7, 33, 9, 32), Shape(9, 65, 129, 96), Shape(2, 64, 128, 128)]


class Fenced:
    """Runs a program with every array at the end of its own pages."""

    def __init__(self, native: Native) -> None:
        self._native = native

    def run(self, memory, calls):
        pages = {}
        for place in {one for call in calls for one in call.arguments if hasattr(one, "start")}:
            size = -(-max(place.size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
            pages[place] = mmap.mmap(-1, size + mmap.PAGESIZE)
            first = ctypes.addressof(ctypes.c_char.from_buffer(pages[place]))
            fence = ctypes.c_void_p(first + size)
            assert 0 == ctypes.CDLL(None).mprotect(fence, ctypes.c_size_t(mmap.PAGESIZE), 0)
            pages[place] = (pages[place], size - place.size, first + size - place.size)
            array, start, _ = pages[place]
            array[start : start + place.size] = memory[_bytes_of(place)].tobytes()
        for call in calls:
            self._native.call(call, lambda place: pages[place][2])
        for place, (array, start, _) in pages.items():
            memory[_bytes_of(place)] = np.frombuffer(array[start : start + place.size], np.uint8)
        return memory


def _bytes_of(place):
    return slice(place.start, place.start + place.size)


def survives(work):
    """Whether a child process does the work and ends well."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return 0 == status


@pytest.fixture
def fenced(isa):
    if not isinstance(isa, Native):
        pytest.skip("an emulated processor's pages are not ours to protect")
    return Fenced(isa)


def test_the_fence_holds(fenced):
    shape = Shape(1, 1, 2, 32)
    arrays = float_matmul.drawn(shape, 0)
    short = arrays[0][:, :1], *arrays[1:]
    assert survives(lambda: float_matmul.multiplied(fenced, arrays, shape))
    assert not survives(lambda: float_matmul.multiplied(fenced, short, shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_layers(fenced, shape):
    x, made = linear.floats(shape, 0), linear.layers(shape, 0)
    assert survives(lambda: linear.products(fenced, linear.Variant(x, shape, made)))


@pytest.mark.parametrize("shape", SHAPES)
def test_float_matmul(fenced, shape):
    arrays = float_matmul.drawn(shape, 0)
    assert survives(lambda: float_matmul.multiplied(fenced, arrays, shape))


@pytest.mark.parametrize("mask", log_code_attention.MASKS)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 33, 9), (3, 64, 64), (5, 129, 31)])
def test_log_code_attention(fenced, sizes, mask):
    form = log_code_attention.Form(*sizes, 2, 6, 0.125, mask)
    arrays = log_code_attention.drawn(form, 0)
    assert survives(lambda: log_code_attention.attended(fenced, arrays, form))


@pytest.mark.parametrize("sizes", [(1, 1, 16, 16, 1), (7, 2, 32, 16, 9)])
def test_binary_attention(fenced, sizes):
    form = binary_attention.Form(*sizes)
    arrays = binary_attention.drawn(form, 0)
    assert survives(lambda: binary_attention.attended(fenced, arrays, form))
