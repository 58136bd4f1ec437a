"""Weights of trained networks in few bits: the tasks, ways to round, and what they cost."""

from bench.weight_only import decoder, runtime, tasks
from bench.weight_only._gptq import gptq
from bench.weight_only._methods import methods, mixed_methods
from bench.weight_only._network import Judged, Network, Rounded
from bench.weight_only._product import head_of, optimized
from bench.weight_only._random_codes import with_random_codes

__all__ = [
    "Judged",
    "Network",
    "Rounded",
    "decoder",
    "gptq",
    "head_of",
    "methods",
    "mixed_methods",
    "optimized",
    "runtime",
    "tasks",
    "with_random_codes",
]
