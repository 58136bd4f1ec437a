"""Nodes of the dialect as calls of kernels, by operator."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from addax.backends.target import InstructionSet
from addax.backends.tvm.attention_calls import binary_attention_call, log_code_call
from addax.backends.tvm.glue import Functions
from addax.backends.tvm.linear_calls import linear_call
from addax.backends.tvm.mixture_calls import mixture_call
from addax.backends.tvm.relax_model import Emit

_CALLS: Mapping[str, Callable[..., Any]] = {
    "BinaryLinearAttention": binary_attention_call,
    "BinaryMatMul": linear_call,
    "CodebookMatMul": linear_call,
    "Int8MatMul": linear_call,
    "LogCodeAttention": log_code_call,
    "RoutedMoE": mixture_call,
}


def kernel_calls(isa: InstructionSet) -> dict[str, Emit]:
    """What the nodes of one model become: calls of the kernels of one instruction set."""
    functions = Functions()
    return {name: partial(call, functions, isa) for name, call in _CALLS.items()}
