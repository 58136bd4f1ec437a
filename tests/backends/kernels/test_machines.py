"""What tests of kernels stand on: memory that is watched, and two ways to call the same code."""

import numpy as np
import pytest

from addax.backends import targets
from addax.backends.compiler import find_compiler
from addax.backends.target import Target
from tests.backends.kernels.layers import Shape, prepare
from tests.backends.kernels.machines import SETS, Harness, machine
from tests.backends.kernels.program import FILL, LINE, Program


class Recorder:
    """Runs nothing; tells what it was asked, and changes one byte."""

    def __init__(self, at=None):
        self.at, self.memory, self.calls = at, None, []

    def run(self, memory, calls):
        self.memory, self.calls = memory.copy(), calls
        if self.at is not None:
            memory[self.at] ^= 1
        return memory


def test_arrays_lie_apart_and_aligned():
    program = Program()
    data = np.arange(5, dtype=np.float32)
    left, right = program.put(data), program.room((3,), np.int8, shift=5)
    recorder = Recorder()
    outcome = program.run(recorder)
    assert 0 == left.start % LINE
    assert 5 == right.start % LINE
    assert data.tolist() == outcome[left].tolist()
    assert [-1, -1, -1] == outcome[right].tolist()
    assert (recorder.memory[left.start + left.size : right.start] == FILL).all()


def test_writes_to_inputs_and_between_arrays_are_found():
    program = Program()
    left, right = program.put(np.zeros(5, np.int8)), program.room((3,), np.int8)
    program.run(Recorder(right.start))
    for at in (left.start, left.start + 5, right.start - 1, right.start + 3, 0):
        with pytest.raises(AssertionError, match="memory changed that is nobody's"):
            program.run(Recorder(at))


def test_the_harness_calls_what_ctypes_calls():
    native = machine("scalar")
    compiler = find_compiler().command
    harness = Harness(compiler, (), Target("scalar", targets.host().triple, (SETS["scalar"],)))
    shape = Shape(3, 1, 70, 32)
    program = Program()
    x = np.random.default_rng(0).standard_normal((3, 70)).astype(np.float32)
    for kernel in ("quantize", "tables"):
        prepare(program, kernel, program.put(x), shape)
    program.call("log_code_attention", *[None] * 8, *[0] * 6, 1.5, -2.0)  # no rows
    assert program.run(native).memory.tobytes() == program.run(harness).memory.tobytes()


def test_the_harness_knows_its_kernels():
    machine("scalar")
    target = Target("scalar", targets.host().triple, (SETS["scalar"],))
    harness = Harness(find_compiler().command, (), target)
    program = Program()
    program.call("matmul", 1)
    with pytest.raises(AssertionError, match="harness: no such kernel"):
        program.run(harness)
