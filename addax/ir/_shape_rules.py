"""Type and shape rules of the operators that compute: elementwise, matrices, windows, reductions.

A rule gets a node and what is known of integer contents, and returns the element type and the
dimensions of the outputs; None where it does not cover the node at hand. It never guesses.
"""

from collections.abc import Callable, Sequence

import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir import _dims
from addax.ir._dims import UNKNOWN, Dim, broadcast_shapes, show
from addax.ir._shape_data import ShapeData, attribute, dims

Fact = tuple[ir.DataType | None, Sequence[Dim] | None]
Rule = Callable[[ir.Node, ShapeData], Fact | list[Fact] | None]

_FLOAT, _BOOL, _INT64 = ir.DataType.FLOAT, ir.DataType.BOOL, ir.DataType.INT64


def dtype_of(value: ir.Value | None) -> ir.DataType | None:
    """The element type of a value, if it is known."""
    return None if value is None else value.dtype


def axis_of(node: ir.Node, rank: int, default: int, extra: int = 0) -> int:
    """The attribute `axis`, counted from the front.

    Raises:
        InvalidGraphError: If it is out of range.
    """
    axis = int(attribute(node, "axis", default))
    if not -rank - extra <= axis < rank + extra:
        raise InvalidGraphError(f"axis {axis} is out of range for rank {rank}")
    return axis + rank + extra if axis < 0 else axis


def unify(a: Dim, b: Dim) -> Dim:
    """The better known of two sizes that must be equal."""
    if isinstance(a, int):
        if isinstance(b, int) and a != b:
            raise InvalidGraphError(f"sizes {a} and {b} must be equal")
        return a
    return b if isinstance(b, int) or a.value is None else a


def like_first(node: ir.Node, _: ShapeData) -> Fact:
    """Type and shape of the first input."""
    value = node.inputs[0]
    return dtype_of(value), dims(value)


def _identity(node: ir.Node, data: ShapeData) -> Fact | None:
    value = node.inputs[0]
    is_tensor = value is not None and isinstance(value.type, ir.TensorType)
    return like_first(node, data) if is_tensor else None


def _typed(dtype: ir.DataType) -> Rule:
    return lambda node, _: (dtype, dims(node.inputs[0]))


def _cast(node: ir.Node, _: ShapeData) -> Fact:
    return ir.DataType(attribute(node, "to")), dims(node.inputs[0])


def _cast_like(node: ir.Node, _: ShapeData) -> Fact:
    return dtype_of(node.inputs[1]), dims(node.inputs[0])


def _binary(node: ir.Node, _: ShapeData) -> Fact:
    a, b = node.inputs
    left, right = dims(a), dims(b)
    dtype = dtype_of(a)
    if left is None or right is None:
        return dtype, None
    return dtype, left if left == right else broadcast_shapes(left, right)


def _compare(node: ir.Node, data: ShapeData) -> Fact:
    return _BOOL, _binary(node, data)[1]


def _variadic(node: ir.Node, _: ShapeData) -> Fact:
    return dtype_of(node.inputs[0]), _broadcast_all(node.inputs)


def _where(node: ir.Node, _: ShapeData) -> Fact:
    return dtype_of(node.inputs[1]) or dtype_of(node.inputs[2]), _broadcast_all(node.inputs)


def _broadcast_all(values: Sequence[ir.Value | None]) -> Sequence[Dim] | None:
    result: Sequence[Dim] = ()
    for value in values:
        known = dims(value)
        if known is None:
            return None
        result = broadcast_shapes(result, known)
    return result


def _matmul(node: ir.Node, _: ShapeData) -> Fact:
    a, b = node.inputs
    return dtype_of(a), _matmul_dims(dims(a), dims(b))


def _matmul_integer(node: ir.Node, _: ShapeData) -> Fact:
    return ir.DataType.INT32, _matmul_dims(dims(node.inputs[0]), dims(node.inputs[1]))


def _matmul_dims(a: Sequence[Dim] | None, b: Sequence[Dim] | None) -> Sequence[Dim] | None:
    if a is None or b is None:
        return None
    if not a or not b:
        raise InvalidGraphError(f"expected operands of rank 1 or more, got {show(a)} and {show(b)}")
    inner, other = a[-1], b[0] if len(b) == 1 else b[-2]
    if isinstance(inner, int) and isinstance(other, int) and inner != other:
        raise InvalidGraphError(
            f"the inner sizes {inner} and {other} of {show(a)} and {show(b)} differ"
        )
    batch = broadcast_shapes(a[:-2], b[:-2])
    return [*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ())]


def _gemm(node: ir.Node, _: ShapeData) -> Fact:
    a, b = dims(node.inputs[0]), dims(node.inputs[1])
    dtype = dtype_of(node.inputs[0])
    if a is None or b is None:
        return dtype, None
    if len(a) != 2 or len(b) != 2:
        raise InvalidGraphError(f"expected two matrices, got {show(a)} and {show(b)}")
    rows, inner = reversed(a) if attribute(node, "transA", 0) else a
    other, columns = reversed(b) if attribute(node, "transB", 0) else b
    if isinstance(inner, int) and isinstance(other, int) and inner != other:
        raise InvalidGraphError(
            f"the inner sizes {inner} and {other} of {show(a)} and {show(b)} differ"
        )
    return dtype, (rows, columns)


def _conv(node: ir.Node, _: ShapeData) -> Fact | None:
    x, w = dims(node.inputs[0]), dims(node.inputs[1])
    dtype = dtype_of(node.inputs[0])
    if x is None:
        return dtype, None
    kernel = attribute(node, "kernel_shape") or (None if w is None else w[2:])
    if kernel is None:
        return dtype, [x[0], *[UNKNOWN] * (len(x) - 1)]
    channels = None if w is None else _dims.multiply(w[1], attribute(node, "group", 1))
    if isinstance(channels, int) and isinstance(x[1], int) and channels != x[1]:
        raise InvalidGraphError(
            f"the input {show(x)} has {x[1]} channels, the weight {show(w)} reads {channels}"
        )
    spatial = _windows(node, x[2:], kernel)
    return None if spatial is None else (dtype, [x[0], UNKNOWN if w is None else w[0], *spatial])


def _pool(node: ir.Node, data: ShapeData) -> Fact | list[Fact] | None:
    x, kernel = dims(node.inputs[0]), attribute(node, "kernel_shape")
    dtype = dtype_of(node.inputs[0])
    if attribute(node, "ceil_mode", 0):
        return None
    if x is None or kernel is None:
        fact: Fact = dtype, None
    else:
        spatial = _windows(node, x[2:], kernel)
        if spatial is None:
            return None
        fact = dtype, [*x[:2], *spatial]
    return [fact, (_INT64, fact[1])]


def _windows(node: ir.Node, sizes: Sequence[Dim], kernel: Sequence[Dim]) -> list[Dim] | None:
    """The number of window positions on each axis: floor((n + pads - reach) / stride) + 1."""
    count = len(sizes)
    if len(kernel) != count:
        raise InvalidGraphError(f"a kernel of rank {len(kernel)} on {count} spatial axes")
    strides = attribute(node, "strides") or (1,) * count
    dilations = attribute(node, "dilations") or (1,) * count
    pads = attribute(node, "pads") or (0,) * (2 * count)
    mode = attribute(node, "auto_pad", "NOTSET")
    if len(strides) != count or len(dilations) != count or len(pads) != 2 * count:
        return None
    result: list[Dim] = []
    for i, (n, k, stride, dilation) in enumerate(
        zip(sizes, kernel, strides, dilations, strict=True)
    ):
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            result.append(_dims.floor_divide(_dims.add(n, stride - 1), stride))
            continue
        padding = 0 if mode == "VALID" else pads[i] + pads[i + count]
        reach = _dims.multiply(_dims.subtract(k, 1), dilation)
        room = _dims.subtract(n, _dims.subtract(reach, padding - 1))
        if isinstance(room, int) and room < 0:
            return None
        result.append(_dims.add(_dims.floor_divide(room, stride), 1))
    return result


def _global_pool(node: ir.Node, _: ShapeData) -> Fact:
    x = dims(node.inputs[0])
    return dtype_of(node.inputs[0]), None if x is None else [*x[:2], *[1] * (len(x) - 2)]


def _unless_more_outputs(node: ir.Node, data: ShapeData) -> Fact | None:
    return like_first(node, data) if len(node.outputs) == 1 else None


def _layer_normalization(node: ir.Node, data: ShapeData) -> list[Fact]:
    dtype, x = like_first(node, data)
    statistics: Sequence[Dim] | None = None
    if x is not None:
        axis = axis_of(node, len(x), -1)
        statistics = [*x[:axis], *[1] * (len(x) - axis)]
    kind = ir.DataType(attribute(node, "stash_type", 1))
    return [(dtype, x), (kind, statistics), (kind, statistics)]


def _quantize(node: ir.Node, _: ShapeData) -> Fact:
    declared = attribute(node, "output_dtype", 0)
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    dtype = ir.DataType(declared) if declared else ir.DataType.UINT8 if zero is None else zero.dtype
    return dtype, dims(node.inputs[0])


def _dequantize(node: ir.Node, _: ShapeData) -> Fact:
    declared = attribute(node, "output_dtype", 0)
    dtype = ir.DataType(declared) if declared else dtype_of(node.inputs[1])
    return dtype, dims(node.inputs[0])


def _dynamic_quantize(node: ir.Node, _: ShapeData) -> list[Fact]:
    byte = ir.DataType.UINT8
    return [(byte, dims(node.inputs[0])), (_FLOAT, ()), (byte, ())]


def _reduce(node: ir.Node, data: ShapeData) -> Fact:
    x, dtype = dims(node.inputs[0]), dtype_of(node.inputs[0])
    given = node.inputs[1] if len(node.inputs) > 1 else None
    axes = attribute(node, "axes") if given is None else data.ints(given)
    keep = attribute(node, "keepdims", 1)
    if x is None:
        return dtype, None
    if not axes and (given is None or axes is not None):
        if attribute(node, "noop_with_empty_axes", 0):
            return dtype, x
        axes = range(len(x))
    if axes is None:
        return dtype, [UNKNOWN] * len(x) if keep else None
    return dtype, drop_axes(x, axes, keep=bool(keep))


def drop_axes(x: Sequence[Dim], axes: Sequence[int], *, keep: bool) -> list[Dim]:
    """The dimensions without `axes`, or with 1 in their place.

    Raises:
        InvalidGraphError: If an axis is out of range.
    """
    rank = len(x)
    if not all(-rank <= axis < rank for axis in axes) and rank:
        raise InvalidGraphError(f"axes {tuple(axes)} are out of range for rank {rank}")
    gone = {axis % rank for axis in axes} if rank else set()
    if keep:
        return [1 if i in gone else d for i, d in enumerate(x)]
    return [d for i, d in enumerate(x) if i not in gone]


def _arg(node: ir.Node, _: ShapeData) -> Fact:
    x = dims(node.inputs[0])
    if x is None:
        return _INT64, None
    axis = axis_of(node, len(x), 0)
    return _INT64, drop_axes(x, (axis,), keep=bool(attribute(node, "keepdims", 1)))


_SAME = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh CumSum Elu Erf Exp "
    "Floor Gelu GroupNormalization HardSigmoid HardSwish Hardmax InstanceNormalization LRN "
    "LeakyRelu Log LogSoftmax LpNormalization MeanVarianceNormalization Mish Neg Not PRelu "
    "RMSNormalization Reciprocal Relu ReverseSequence RotaryEmbedding Round ScatterElements "
    "ScatterND Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh "
    "TensorScatter ThresholdedRelu Trilu"
)
_BINARY = "Add BitShift BitwiseAnd BitwiseOr BitwiseXor Div Mod Mul Pow Sub"
_COMPARE = "And Equal Greater GreaterOrEqual Less LessOrEqual Or Xor"
_REDUCE = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME.split(), like_first),
    **dict.fromkeys(_BINARY.split(), _binary),
    **dict.fromkeys(_COMPARE.split(), _compare),
    **dict.fromkeys(("Max", "Mean", "Min", "Sum"), _variadic),
    **{f"Reduce{kind}": _reduce for kind in _REDUCE.split()},
    "ArgMax": _arg,
    "ArgMin": _arg,
    "AveragePool": _pool,
    "BatchNormalization": _unless_more_outputs,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Dropout": _unless_more_outputs,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Identity": _identity,
    "IsInf": _typed(_BOOL),
    "IsNaN": _typed(_BOOL),
    "LayerNormalization": _layer_normalization,
    "MatMul": _matmul,
    "MatMulInteger": _matmul_integer,
    "MaxPool": _pool,
    "QuantizeLinear": _quantize,
    "Where": _where,
}
