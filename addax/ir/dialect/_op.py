"""The frame of a dialect op: a name, a body in standard ops, a shape rule, a cost.

The body is the meaning. It is an onnxscript function, travels in every saved model as a
model-local function, and runs in any ONNX Runtime; a registered kernel only makes it fast.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.ir.cost import Cost

DOMAIN = "addax"
VERSION = 1


@dataclass(frozen=True)
class DialectOp:
    """One op of the domain `addax`.

    Attributes:
        name: The operator's type.
        script: Its body, an `onnxscript.OnnxFunction` over standard ops.
        shape: Sets type and shape of a node's outputs from those of its inputs; leaves unknown
            what it cannot know.
        cost: The arithmetic of one evaluation of a node; a symbolic dimension counts as what it is
            bound to by name, or as 1.
    """

    name: str
    script: Any
    shape: Callable[[ir.Node], None]
    cost: Callable[[ir.Node, Mapping[str, int]], Cost]

    def body(self, opset: int) -> ir.Function:
        """A fresh copy of the body, stamped with the model's version of the standard domain.

        ONNX Runtime compiles bodies at the version that the *model* imports, whatever the
        function says, so both must say the same.
        """
        function: ir.Function = ir.serde.deserialize_function(self.script.to_function_proto())
        function.opset_imports[""] = opset
        return function


def install(model: ir.Model, op: DialectOp) -> None:
    """Make `op` usable in `model`: its body among the functions, the domain imported.

    Raises:
        InvalidGraphError: If the model has another function of that name.
    """
    model.opset_imports.setdefault(DOMAIN, VERSION)
    identifier = (DOMAIN, op.name, "")
    if identifier not in model.functions:
        model.functions[identifier] = op.body(model.opset_imports.get("", 18))
        return
    have = [node.op_type for node in model.functions[identifier]]
    want = [node.op_type for node in op.body(18)]
    if have != want:
        raise InvalidGraphError(
            f"the model has a function {DOMAIN}:{op.name} that is not addax's: its body is "
            f"{have}, expected {want}; rename that function"
        )
