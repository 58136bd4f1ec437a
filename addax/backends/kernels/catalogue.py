"""Every kernel by name: its parameters and its body.

Needs TVM; who only asks what there is, loads `addax.backends.targets` instead.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from addax.backends.kernels import (
    activations,
    binary_attention,
    binary_matmul,
    codebook_matmul,
    float_matmul,
    linear,
    log_code_attention,
)
from addax.backends.kernels.vocabulary import Vocabulary
from addax.backends.tvm.builder import Builder, function


@dataclass(frozen=True)
class Kernel:
    """A C function: parameters in order (element types, pointers end in `*`), and what it does."""

    parameters: Mapping[str, str]
    body: Callable[[Builder, Vocabulary], None]


def _linear(body: Callable[..., None], variant: int) -> Kernel:
    return Kernel(linear.PARAMETERS, lambda k, isa: body(k, isa, variant))


KERNELS: Mapping[str, Kernel] = {
    "quantize": Kernel(activations.PARAMETERS, activations.quantize),
    "tables": Kernel(activations.PARAMETERS, activations.tables),
    "levels": Kernel(activations.LEVELS, lambda k, _: activations.levels(k)),
    "stairs": Kernel(activations.STAIRS, lambda k, _: activations.stairs(k)),
    "values": Kernel(log_code_attention.VALUES, lambda k, _: log_code_attention.values(k)),
    "log_code_attention": Kernel(log_code_attention.ATTENTION, log_code_attention.attention),
    "binary_linear_attention": Kernel(
        binary_attention.PARAMETERS, lambda k, _: binary_attention.binary_linear_attention(k)
    ),
    "float_matmul": Kernel(float_matmul.PARAMETERS, lambda k, _: float_matmul.float_matmul(k)),
    "int8": _linear(codebook_matmul.few, 8),
    **{f"codebook{bits}_few": _linear(codebook_matmul.few, bits) for bits in (4, 2)},
    **{f"codebook{bits}_many": _linear(codebook_matmul.many, bits) for bits in (4, 2)},
    **{f"binary{planes}_few": _linear(binary_matmul.few, planes) for planes in (1, 2, 3, 4)},
    **{f"binary{planes}_many": _linear(binary_matmul.many, planes) for planes in (1, 2, 3, 4)},
}


def functions(isa: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """A PrimFunc for each kernel, by its C symbol `addax_KERNEL_ISA`."""
    made = {}
    for name, kernel in KERNELS.items():
        symbol = f"addax_{name}_{isa}"
        body = functools.partial(_body, kernel, vocabulary)
        made[symbol] = function(symbol, kernel.parameters, body)
    return made


def _body(kernel: Kernel, vocabulary: Vocabulary, k: Builder) -> None:
    kernel.body(k, vocabulary)
