"""What a node costs: multiplies, adds, shifts, table reads, and bytes moved.

The counts are of one evaluation, exact for the operators listed here and zero for pure
movement; a symbolic dimension counts as 1 unless `bind` names it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import onnx_ir as ir

from addax.ir.query import attribute, constant_tensor, shape

# Horowitz, "Computing's energy problem", ISSCC 2014, 45 nm, picojoules: the figures that the
# papers of this field use. A model, not a measurement.
PICOJOULES = {
    "multiplies": 3.7,
    "adds": 0.9,
    "byte_multiplies": 0.2,
    "integer_adds": 0.1,
    "shifts": 0.13,
    "table_reads": 5.0 / 16,
}


@dataclass(frozen=True)
class Cost:
    """Operation counts and bytes of one evaluation; costs add.

    `multiplies` and `adds` are of float32, `byte_multiplies` of integers of 8 bits, `integer_adds`
    of 32 bits. An operator of few bits counts as its kernels compute it, not as its body does.
    """

    multiplies: int = 0
    adds: int = 0
    byte_multiplies: int = 0
    integer_adds: int = 0
    shifts: int = 0
    table_reads: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def energy(self) -> float:
        """Arithmetic energy in picojoules by the papers' 45 nm figures (a model)."""
        return float(sum(getattr(self, name) * price for name, price in PICOJOULES.items()))


def elements(value: ir.Value | None, bind: Mapping[str, int]) -> int:
    """The number of elements of a tensor; unknown dimensions count as 1."""
    dims = shape(value)
    if dims is None:
        return 0 if value is None else 1
    return math.prod(d if isinstance(d, int) else bind.get(d or "", 1) for d in dims)


def _bytes(value: ir.Value | None, bind: Mapping[str, int]) -> int:
    """Bytes of a tensor; strings, which have no size of their own, count as none."""
    if value is None or value.dtype in (None, ir.DataType.STRING):
        return 0
    return math.ceil(elements(value, bind) * value.dtype.bitwidth / 8)


def _matmul(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    dims = shape(node.inputs[0]) or (1,)
    inner = dims[-1] if isinstance(dims[-1], int) else bind.get(dims[-1] or "", 1)
    work = elements(node.outputs[0], bind) * inner
    return Cost(multiplies=work, adds=work)


def _gemm(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    dims = shape(node.inputs[0])
    inner = dims[0 if attribute(node, "transA", 0) else 1] if dims else 1
    out = elements(node.outputs[0], bind)
    work = out * (inner if isinstance(inner, int) else bind.get(inner or "", 1))
    return Cost(multiplies=work, adds=work + (out if len(node.inputs) > 2 else 0))


def _conv(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    taps = shape(node.inputs[1])
    if taps is None:
        return Cost()
    transposed = node.op_type == "ConvTranspose"
    each = math.prod(d for d in taps[1:] if isinstance(d, int))
    work = elements(node.inputs[0] if transposed else node.outputs[0], bind) * each
    return Cost(multiplies=work, adds=work)


def _elementwise(multiplies: int, adds: int) -> Callable[[ir.Node, Mapping[str, int]], Cost]:
    def cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
        size = elements(node.outputs[0], bind)
        return Cost(multiplies=multiplies * size, adds=adds * size)

    return cost


def _over_input(multiplies: int, adds: int) -> Callable[[ir.Node, Mapping[str, int]], Cost]:
    def cost(node: ir.Node, bind: Mapping[str, int]) -> Cost:
        size = elements(node.inputs[0], bind)
        return Cost(multiplies=multiplies * size, adds=adds * size)

    return cost


_RULES: dict[str, Callable[[ir.Node, Mapping[str, int]], Cost]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Mul": _elementwise(1, 0),
    "Div": _elementwise(1, 0),
    "Add": _elementwise(0, 1),
    "Sub": _elementwise(0, 1),
    "BatchNormalization": _elementwise(1, 1),
    "LayerNormalization": _elementwise(3, 4),
    "RMSNormalization": _elementwise(3, 1),
    "Softmax": _elementwise(8, 8),
    "Gelu": _elementwise(8, 6),
    "Erf": _elementwise(7, 6),
    "Exp": _elementwise(6, 6),
    "Tanh": _elementwise(7, 6),
    "Sigmoid": _elementwise(7, 7),
    "ReduceMean": _over_input(0, 1),
    "ReduceSum": _over_input(0, 1),
    "GlobalAveragePool": _over_input(0, 1),
    "AveragePool": _over_input(0, 1),
}


def _integer_matmul(node: ir.Node, bind: Mapping[str, int]) -> Cost:
    dims = shape(node.inputs[0]) or (1,)
    inner = dims[-1] if isinstance(dims[-1], int) else bind.get(dims[-1] or "", 1)
    out = elements(node.outputs[0], bind)
    scaled = 0 if node.op_type == "MatMulInteger" else out
    return Cost(multiplies=scaled, byte_multiplies=out * inner, integer_adds=out * inner)


_RULES["MatMulInteger"] = _integer_matmul
_RULES["QuantizeLinear"] = _RULES["DequantizeLinear"] = _elementwise(1, 0)
_RULES["DynamicQuantizeLinear"] = _over_input(1, 2)
# Of "com.microsoft", which ONNX Runtime has beside the standard ones.
_RUNTIME_RULES: dict[str, Callable[[ir.Node, Mapping[str, int]], Cost]] = {
    "DynamicQuantizeMatMul": _integer_matmul,
    "MatMulIntegerToFloat": _integer_matmul,
    "QGemm": _integer_matmul,
}
_RULES_OF_DOMAINS = {"": _RULES, "com.microsoft": _RUNTIME_RULES}


def _rule_of_dialect(node: ir.Node) -> Callable[[ir.Node, Mapping[str, int]], Cost] | None:
    from addax.ir import dialect  # its operators say what they cost in terms of this module

    known = dialect.operators() if node.domain == dialect.DOMAIN else {}
    return known[node.op_type].cost if node.op_type in known else None


def cost_of(node: ir.Node, bind: Mapping[str, int] | None = None) -> Cost:
    """The cost of a node; nodes that only move data have bytes and no arithmetic.

    Known are the standard operators listed here, ONNX Runtime's own integer products, and the
    operators of the domain `addax`.
    """
    bind = bind or {}
    known = _RULES_OF_DOMAINS.get(node.domain)
    rule = _rule_of_dialect(node) if known is None else known.get(node.op_type)
    work = Cost() if rule is None else rule(node, bind)
    return work + Cost(
        bytes_read=sum(_bytes(v, bind) for v in node.inputs),
        bytes_written=sum(_bytes(v, bind) for v in node.outputs),
    )


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers, in every scope."""
    return sum(v.const_value.nbytes for v in _initializers(model) if v.const_value is not None)


def _initializers(model: ir.Model) -> list[ir.Value]:
    return [v for graph in model.graphs() for v in graph.initializers.values()]


def total_cost(model: ir.Model, bind: Mapping[str, int] | None = None) -> Cost:
    """The cost of the main graph's nodes once each, without bodies of control flow."""
    total = Cost()
    for node in model.graph:
        if constant_tensor(node.outputs[0] if node.outputs else None) is None:
            total += cost_of(node, bind)
    return total
