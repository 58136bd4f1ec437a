"""Every test of a kernel runs on each instruction set; where one cannot run, the test says why."""

import pytest

from tests.backends.kernels.machines import BEST, SETS, machine

SLOW = pytest.mark.slow


@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=() if name == BEST else SLOW) for name in SETS],
)
def isa(request):
    """What runs the kernels of an instruction set; all but the best one here are slow."""
    return machine(request.param)
