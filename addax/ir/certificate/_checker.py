"""The checker: does the steps of a certificate on the original model, and believes none of them.

It shares no code with the passes. Each step is an edit; the two sides of the edit are proved equal
or measured before it is made, and every constant is computed from its formula. In the end the
result must be the optimized model, bit for bit.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.errors import AddaxError, InputError
from addax.ir import folding
from addax.ir._literals import same_bits, tensor_key
from addax.ir.builder import Derivation, Replacement
from addax.ir.certificate._encoding import decode_attributes, decode_tensor
from addax.ir.certificate._evidence import Examiner
from addax.ir.certificate._numbering import Numbering, lift_constants
from addax.ir.certificate._steps import Evidence, Step
from addax.ir.dialect import install_bodies
from addax.ir.model import clone, prune, scopes
from addax.ir.query import constant_tensor
from addax.ir.rule import Decline
from addax.ir.shapes import ShapeInference, infer_shapes


class Rejected(Exception):  # noqa: N818 - no error: an answer
    """A certificate does not hold; the message says where and why."""


class Checker:
    """Replays steps on a copy of the original model."""

    def __init__(self, original: ir.Model, optimized: ir.Model) -> None:
        self.model = clone(original)
        infer_shapes(self.model)
        lift_constants(self.model)
        self.evidence: Counter[Evidence] = Counter()
        self.error_probability = 0.0
        self._opset = self.model.opset_imports.get("", 1)
        self._numbering = Numbering(self.model)
        self._shapes = ShapeInference(self.model)
        self._examiner = Examiner(self.model)
        self._functions = {id(f.graph) for f in self.model.functions.values()}
        self._large = {
            tensor_key(v.const_value).hex(): v.const_value
            for graph in optimized.graphs()
            for v in graph.initializers.values()
            if v.const_value is not None
        }

    @property
    def distinct(self) -> int:
        """How many different rewrites were looked at."""
        return self._examiner.distinct

    def check(self, step: Step) -> None:
        """Do one step.

        Raises:
            Rejected: It cannot be done, or is wrong.
        """
        try:
            if step.kind == "share":
                self._share(step)
            else:
                self._rewrite(step)
        except Decline as decline:
            raise Rejected(f"a formula fails: {decline.reason}") from decline
        except (AddaxError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise Rejected(f"the step cannot be done: {error}") from error

    def finish(self) -> ir.Model:
        """The model that the steps made, without what nobody reads, in order."""
        prune(self.model)
        for scope in scopes(self.model):
            (scope.graph if isinstance(scope, ir.Function) else scope).sort()
        return self.model

    def _value(self, number: int | None) -> ir.Value | None:
        if number is None:
            return None
        if not 0 <= number < len(self._numbering.values):
            raise Rejected(f"there is no value {number}")
        return self._numbering.values[number]

    def _share(self, step: Step) -> None:
        (old,), (new,) = map(self._value, step.replaced), map(self._value, step.outputs)
        a, b = constant_tensor(old), constant_tensor(new)
        if old is None or new is None or a is None or b is None or not same_bits(a, b):
            raise Rejected("the initializers are not equal")
        for use in tuple(old.uses()):
            use.node.replace_input_with(use.idx, new)
        self.evidence["proved"] += 1

    def _rewrite(self, step: Step) -> None:
        replaced = [self._value(number) for number in step.replaced]
        roots = {value.producer() for value in replaced if value is not None}
        root = roots.pop() if len(roots) == 1 else None
        if root is None or list(root.outputs) != replaced or root.graph is None:
            raise Rejected("the replaced values are not the outputs of one node")
        replacement = Replacement(root, id(root.graph) in self._functions)
        for spec in step.constants:
            self._constant(spec, replacement)
        for spec in step.nodes:
            self._node(spec, replacement)
        install_bodies(self.model, replacement.nodes)
        for name, place in step.bodies:
            replacement.bodies.append(_body(root, name, place))
        outputs = [self._value(number) for number in step.outputs]
        self._require_fit(root, outputs)
        replacement.outputs = tuple(outputs)  # type: ignore[arg-type]
        self._examine(step, replacement)
        self._apply(replacement)

    def _constant(self, spec: Mapping[str, Any], replacement: Replacement) -> None:
        """A new constant: elements, or a formula computed in float64 and rounded once."""
        if "op" not in spec:
            tensor = decode_tensor(dict(spec), self._large)
            value = _constant_value(tensor)
            replacement.exact[value] = np.asarray(tensor.numpy())
        else:
            value = self._derived(spec, replacement)
        replacement.constants[value] = ""
        self._add(value, spec["id"])

    def _derived(self, spec: Mapping[str, Any], replacement: Replacement) -> ir.Value:
        inputs = tuple(self._value(number) for number in spec["inputs"])
        attributes = {attr.name: attr for attr in decode_attributes(spec["attributes"])}
        arrays = [None if v is None else _array(v, spec["op"], replacement) for v in inputs]
        dtypes = [None if v is None else v.dtype for v in inputs]
        index = spec["index"]
        results = folding.compute(
            spec["op"], arrays, dtypes, attributes, self._opset, spec["count"]
        )
        array, dtype = results[index]
        value = _constant_value(folding.round_to(array, dtype))
        replacement.exact[value] = array
        replacement.folded[value] = Derivation(spec["op"], inputs, attributes, index, spec["count"])
        return value

    def _node(self, spec: Mapping[str, Any], replacement: Replacement) -> None:
        node = ir.Node(
            spec["domain"],
            spec["op"],
            [self._value(number) for number in spec["inputs"]],
            decode_attributes(spec["attributes"]),
            overload=spec["overload"],
            num_outputs=len(spec["outputs"]),
        )
        for value, number in zip(node.outputs, spec["outputs"], strict=True):
            self._add(value, number)
        self._shapes.infer(node)
        replacement.nodes.append(node)

    def _add(self, value: ir.Value, number: int) -> None:
        if number != len(self._numbering.values):
            raise Rejected(
                f"expected value {len(self._numbering.values)} to come next, not {number}"
            )
        self._numbering.add(value)

    def _require_fit(self, root: ir.Node, outputs: list[ir.Value | None]) -> None:
        if len(outputs) != len(root.outputs):
            raise Rejected("the step has another number of outputs than the node it replaces")
        for old, new in zip(root.outputs, outputs, strict=True):
            if new is None and (old.uses() or old.is_graph_output()):
                raise Rejected(f"value {old.name!r} is read, but the step replaces it by nothing")
            if new is None or None in (old.dtype, new.dtype):
                continue
            if old.dtype != new.dtype:
                raise Rejected(f"value {old.name!r} of type {old.dtype} becomes {new.dtype}")

    def _examine(self, step: Step, replacement: Replacement) -> None:
        matched = [v.producer() for v in map(self._value, step.matched) if v is not None]
        found = self._examiner.examine(replacement, [n for n in matched if n], step.exact)
        if found.refuted:
            raise Rejected(f"both sides differ: {found.detail}")
        self.evidence[found.evidence] += 1
        self.error_probability += found.error_probability

    def _apply(self, replacement: Replacement) -> None:
        """Make the edit: the new nodes before the root, its readers on the new values."""
        root = replacement.root
        for body in replacement.bodies:
            self._unpack(body, root)
        for value in replacement.constants:
            self._place(value, root)
        for node in replacement.nodes:
            self._before(root, node)
        readers = [reader for value in root.outputs for reader in value.consumers()]
        for old, new in zip(root.outputs, replacement.outputs, strict=True):
            if new is not None:
                _substitute(old, new)
        self._learn(readers)

    def _before(self, root: ir.Node, node: ir.Node) -> None:
        graph: Any = root.graph
        for value in node.outputs:
            value.name = value.name or f"value {self._numbering[value]}"
        graph.insert_before(root, node)

    def _unpack(self, body: ir.Graph, root: ir.Node) -> None:
        graph: Any = root.graph
        body.outputs.clear()
        constants = list(body.initializers.values())
        body.initializers.clear()
        nodes = list(body)
        body.remove(nodes)
        for value in constants:
            self._place(value, root)
        graph.insert_before(root, nodes)

    def _place(self, value: ir.Value, root: ir.Node) -> None:
        """Put a constant where the root is: functions have no initializers."""
        graph: Any = root.graph
        value.name = f"constant {self._numbering[value]}"
        if id(graph) in self._functions:
            self._before(
                root, ir.Node("", "Constant", (), _value_attribute(value), outputs=[value])
            )
        else:
            graph.register_initializer(value)

    def _learn(self, nodes: list[ir.Node]) -> None:
        """Shapes that readers of new values lacked."""
        while nodes:
            node = nodes.pop()
            if self._shapes.learn(node):
                nodes += [reader for value in node.outputs for reader in value.consumers()]


def _body(root: ir.Node, name: str, place: int) -> ir.Graph:
    attribute = root.attributes[name]
    graphs = attribute.value if attribute.type == ir.AttributeType.GRAPHS else [attribute.value]
    body = graphs[place]
    if not isinstance(body, ir.Graph):
        raise InputError(f"attribute {name!r} is no subgraph")
    return body


def _constant_value(tensor: ir.TensorProtocol) -> ir.Value:
    return ir.Value(
        const_value=tensor,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tensor.shape.numpy()),
    )


def _value_attribute(value: ir.Value) -> list[ir.Attr]:
    if value.const_value is None:
        raise InputError("a constant has no tensor")
    return [ir.AttrTensor("value", value.const_value)]


def _array(value: ir.Value, op_type: str, replacement: Replacement) -> np.ndarray:
    """A constant as the formula reads it: unrounded where this step computed it."""
    array = replacement.exact.get(value)
    if array is None:
        tensor = constant_tensor(value)
        if tensor is None:
            raise InputError(f"value {value.name!r} of a formula is not constant")
        array = np.asarray(tensor.numpy())
    is_floating = value.dtype is not None and value.dtype.is_floating_point()
    if op_type in folding.MOVEMENT or not is_floating:
        return array
    return array.astype(np.float64, copy=False)


def _substitute(old: ir.Value, new: ir.Value) -> None:
    """Let every reader of `old` read `new`; an output keeps its name and what it declares."""
    if new.type is None:
        new.type = old.type
    known = new.shape is not None and not old.is_graph_output()
    if old.shape is not None and (not known or _knows_more(old.shape, new.shape)):
        new.shape = old.shape
    if old.is_graph_output() and old.name is not None:
        old.name, new.name = None, old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def _knows_more(a: ir.Shape, b: ir.Shape | None) -> bool:
    return b is None or sum(isinstance(d, int) for d in a) > sum(isinstance(d, int) for d in b)
