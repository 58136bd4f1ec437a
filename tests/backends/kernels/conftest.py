"""Every test of a kernel runs on each instruction set; where one cannot run, the test says why."""

import pytest

from tests.backends.kernels.machines import SETS, machine


@pytest.fixture(scope="session", params=list(SETS))
def isa(request):
    """What runs the kernels of an instruction set."""
    return machine(request.param)
