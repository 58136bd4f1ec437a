"""Honest measuring for every bench: interleaved timing, peak memory, machine facts, printing."""

from bench.measure._machine import machine
from bench.measure._memory import Peak, peak_memory
from bench.measure._page import arguments, emit_json, table, timing_table
from bench.measure._timing import Spread, Timings, interleave

__all__ = [
    "Peak",
    "Spread",
    "Timings",
    "arguments",
    "emit_json",
    "interleave",
    "machine",
    "peak_memory",
    "table",
    "timing_table",
]
