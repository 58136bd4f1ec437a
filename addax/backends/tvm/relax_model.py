"""A whole ONNX graph as a Relax module: our own walk, the stock converter of each operator.

TVM's `from_onnx` refuses model-local functions and many Constant nodes, prints, and names no node.
So it is used one operator at a time, and the walk over the graph is ours: it knows about nodes of
the dialect, and about where a node came from.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from addax.errors import UnsupportedOpError
from addax.ir.dialect import DOMAIN
from addax.ir.origin import describe
from addax.ir.query import shape, static_shape

Emit = Callable[[relax.BlockBuilder, ir.Node, Sequence[Any]], Any]
"""How a node of the dialect becomes a call of kernels: takes its inputs, gives its output."""

_SHOWN = 20
_LANES = 16  # of the widest vectors
_MATMUL = tvm.ir.Op.get("relax.matmul")
_TAKE = tvm.ir.Op.get("relax.take")
_SPREADING = {"Expand": relax.op.broadcast_to, "Reshape": relax.op.reshape}
_TAKING_SHAPES = {
    "Cast", "CastLike", "Concat", "ConstantOfShape", "Equal", "Expand", "Gather", "Reshape",
    "Resize", "Shape", "Slice", "Squeeze", "Where",
}  # fmt: skip
_CONVERTERS = onnx_frontend._get_convert_map()  # noqa: SLF001  # TVM has no public table


def relax_module(model: ir.Model, kernels: Mapping[str, Emit] | None = None) -> tvm.IRModule:
    """The main graph as the function `main`, constants inside; outputs always as a tuple.

    Args:
        model: Without functions; Constant nodes lifted; every input of a known rank. Dimensions
            that have a name become symbolic.
        kernels: What to do with nodes of the domain `addax`, by operator type.

    Raises:
        UnsupportedOpError: Operators that have no converter (lists all of them), or a node whose
            converter fails on it.
    """
    _require_converters(model.graph, kernels or {})
    return _Walk(model, kernels or {}).module()


class _Walk:
    """One conversion: which Relax expression each value of the graph has become."""

    def __init__(self, model: ir.Model, kernels: Mapping[str, Emit]) -> None:
        self.model, self.kernels = model, kernels
        self.opset = model.opset_imports.get("", 18)
        self.builder = relax.BlockBuilder()
        self.sizes: dict[str, Any] = {}  # a symbolic variable for each named dimension
        self.made: dict[ir.Value, Any] = {}

    def module(self) -> tvm.IRModule:
        graph = self.model.graph
        parameters = [v for v in graph.inputs if v.const_value is None]
        for number, value in enumerate(parameters):
            self.made[value] = self._parameter(f"x{number}", value)
        variables = [self.made[value] for value in parameters]
        branches = any(node.op_type == "If" for node in graph.all_nodes())
        with self.builder.function("main", params=variables):
            # A dataflow block may hold no branch, and only inside one are operators fused.
            block = contextlib.nullcontext() if branches else self.builder.dataflow()
            with block:
                self._convert(graph)
                result = relax.Tuple([self._tensor(self.made[v]) for v in graph.outputs])
                result = self.builder.emit(result) if branches else self.builder.emit_output(result)
            self.builder.emit_func_output(result)
        return self.builder.get()

    def _parameter(self, name: str, value: ir.Value) -> Any:
        dims = [d if isinstance(d, int) else self._size(str(d.value)) for d in value.shape or ()]
        return relax.Var(name, relax.TensorType(dims, _dtype(value)))

    def _size(self, name: str) -> Any:
        if name not in self.sizes:
            self.sizes[name] = tvm.tirx.Var(f"n{len(self.sizes)}", "int64")
        return self.sizes[name]

    def _convert(self, graph: ir.Graph) -> None:
        for value in graph.initializers.values():
            if value.const_value is not None:
                self.made[value] = relax.const(_tensor(value.const_value))
        for node in graph:
            for value, made in zip(node.outputs, self._node(node), strict=False):
                _require_fit(node, value, made)
                self.made[value] = made

    def _node(self, node: ir.Node) -> Sequence[Any]:
        inputs = [None if value is None else self.made[value] for value in node.inputs]
        try:
            if node.domain == DOMAIN:
                return [self.kernels[node.op_type](self.builder, node, inputs)]
            if node.op_type == "If":
                return self._branches(node, inputs[0])
            return self._operator(node, inputs)
        except UnsupportedOpError:
            raise
        except Exception as error:  # converters raise whatever they meet
            lines = str(error).strip().splitlines() or [""]
            raise UnsupportedOpError(
                f"TVM's converter of {node.op_type} fails at {describe(node)} with "
                f"{type(error).__name__}: {lines[-1][:300]}; fix the sizes of the inputs if some "
                'are open, or use target="host", which takes every operator'
            ) from error

    def _target(self, node: ir.Node) -> Any:
        """The shape of what a node makes, where it is known, though the batch be open."""
        dims = shape(node.outputs[0])
        if dims is None or not all(isinstance(d, int) or d in self.sizes for d in dims):
            return None
        return relax.ShapeExpr([d if isinstance(d, int) else self.sizes[str(d)] for d in dims])

    def _operator(self, node: ir.Node, inputs: Sequence[Any]) -> Sequence[Any]:
        spread = _SPREADING.get(node.op_type)
        if spread is not None and isinstance(inputs[0].ty, relax.TensorType):
            target = self._target(node)
            if target is not None and any(isinstance(d, tvm.tirx.IntImm) and not d for d in target):
                # Nothing is in it, and a 0 would mean the size that the operand has.
                return [self.builder.normalize(relax.op.zeros(target, _dtype(node.outputs[0])))]
            if target is not None:
                return [self.builder.normalize(spread(inputs[0], target))]
        if node.op_type not in _TAKING_SHAPES:
            inputs = [None if given is None else self._tensor(given) for given in inputs]
        convert = _CONVERTERS[node.op_type].get_converter(self.opset)
        attributes = {a.name: _attribute(a) for a in node.attributes.values()}
        attributes["tvm_custom"] = {"name": node.name or "", "num_outputs": len(node.outputs)}
        arguments = onnx_frontend.onnx_input(inputs)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            made = convert(self.builder, arguments, attributes, [{}, {}])
        made = self.builder.normalize(made)
        if isinstance(made, relax.Tuple):
            return list(made.fields)
        made = self._amended(made)
        return self._parts(made) if isinstance(made.ty, relax.TupleType) else [made]

    def _amended(self, made: Any) -> Any:
        """What the converter made, where it was unsafe or slow in another form."""
        operator = getattr(made, "op", None)
        if operator == _TAKE:  # by default an index that is out of range reads what lies there
            made = relax.op.take(*made.args, axis=made.attrs.axis, mode="clip")
        elif operator == _MATMUL and (missing := _missing_columns(made.ty.shape)):
            left, right = made.args
            size = int(made.ty.shape[-1])
            padding = [0, 0] * (len(right.ty.shape) - 1) + [0, missing]
            wide = self.builder.emit(relax.op.nn.pad(right, padding))
            wide = self.builder.emit(relax.op.matmul(left, wide))
            axis = len(made.ty.shape) - 1
            made = relax.op.strided_slice(wide, axes=[axis], begin=[0], end=[size])
        return self.builder.normalize(made)

    def _parts(self, made: Any) -> list[Any]:
        return [self.builder.emit(relax.TupleGetItem(made, i)) for i in range(len(made.ty.fields))]

    def _branches(self, node: ir.Node, condition: Any) -> Sequence[Any]:
        then, other = (self._branch(node, name) for name in ("then_branch", "else_branch"))
        return self._parts(self.builder.emit(relax.If(condition, then, other)))

    def _branch(self, node: ir.Node, name: str) -> Any:
        graph = node.attributes[name].as_graph()
        self._convert(graph)
        outputs = relax.Tuple([self._tensor(self.made[value]) for value in graph.outputs])
        return relax.SeqExpr(blocks=[], body=outputs)

    def _tensor(self, made: Any) -> Any:
        """Converters keep shapes as shapes and sizes as numbers; here is a tensor."""
        if isinstance(made.ty, relax.ShapeType):
            return self.builder.emit(relax.op.shape_to_tensor(made))
        if isinstance(made.ty, tvm.ir.PrimType):
            row = self.builder.emit(relax.op.shape_to_tensor(relax.ShapeExpr([made])))
            return self.builder.emit(relax.op.reshape(row, []))
        return made


def _require_fit(node: ir.Node, value: ir.Value, made: Any) -> None:
    """Some converters put a constant for outputs that they do not compute."""
    expected = static_shape(value)
    if expected is None or not (value.uses() or value.is_graph_output()):
        return
    known = getattr(made.ty, "shape", None)
    if known is None or not all(isinstance(d, tvm.tirx.IntImm) for d in known):
        return
    if tuple(map(int, known)) != expected:
        raise UnsupportedOpError(
            f"TVM's converter of {node.op_type} does not compute output {value.name!r} of "
            f"{describe(node)}: expected shape {expected}, got {tuple(map(int, known))}; "
            'use target="host", which takes every operator'
        )


def _missing_columns(dims: Any) -> int:
    """Columns that a product lacks to be made in whole vectors; 0 where that is no matter."""
    size = dims[-1] if dims is not None and len(dims) > 1 else None
    if not isinstance(size, tvm.tirx.IntImm) or int(size) <= _LANES:
        return 0
    if any(int(size) % lanes == 0 for lanes in range(_LANES // 2, _LANES + 1)):
        return 0
    return -int(size) % (2 * _LANES)


def _attribute(attribute: ir.Attr) -> Any:
    """What the stock converters expect: text as bytes, lists as tuples, tensors in ONNX form."""
    value = attribute.value
    if attribute.type == ir.AttributeType.STRING:
        return value.encode()
    if attribute.type == ir.AttributeType.STRINGS:
        return tuple(text.encode() for text in value)
    if attribute.type == ir.AttributeType.TENSOR:
        return ir.serde.serialize_tensor(value)
    return tuple(value) if isinstance(value, Sequence) else value


def _tensor(tensor: ir.TensorProtocol) -> Any:
    if tensor.dtype == ir.DataType.STRING:
        raise UnsupportedOpError(
            f"TVM has no text: constant {tensor.name!r} holds strings; "
            'use target="host", which takes every operator'
        )
    return tvm.runtime.tensor(tensor.numpy())


def _dtype(value: ir.Value) -> str:
    return str(value.dtype.numpy()) if value.dtype is not None else "float32"


def _require_converters(graph: ir.Graph, kernels: Mapping[str, Emit]) -> None:
    missing = [
        node
        for node in graph.all_nodes()
        if (node.op_type not in kernels if node.domain == DOMAIN else not _is_known(node))
    ]
    if not missing:
        return
    lines = [f"  {describe(node)}" for node in missing[:_SHOWN]]
    if len(missing) > _SHOWN:
        lines.append(f"  and {len(missing) - _SHOWN} more")
    raise UnsupportedOpError(
        "\n".join((f"{len(missing)} nodes have no converter to TVM {tvm.__version__}:", *lines))
        + '\nRewrite them into other operators, or use target="host", which takes every operator.'
    )


def _is_known(node: ir.Node) -> bool:
    return not node.domain and (node.op_type == "If" or node.op_type in _CONVERTERS)
