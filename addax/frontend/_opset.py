"""Models of older operator sets, raised to the one that the rest of addax writes.

Later versions of most operators accept what earlier ones did: more types, optional inputs,
attributes whose default is the old behaviour. Their schemas say so. The others each have an
adapter in `_opset_adapters`. A model with an operator that has neither keeps its operator set:
better an old model than one that means something else.
"""

import functools
import logging
from collections.abc import Iterator

import onnx
import onnx_ir as ir

from addax.errors import InvalidGraphError
from addax.frontend._opset_adapters import ADAPTERS, Adapter, Names, Unchanged
from addax.ir.model import roots
from addax.ir.shapes import infer_shapes

logger = logging.getLogger(__name__)

TARGET = 20  # the first with Gelu; ONNX Runtime runs it since 1.17
_OLDEST = 6  # before it, half of the operators had other forms

# Versions whose schema looks compatible with the one before, and is not.
_OTHER_MEANING = {
    ("AveragePool", 19),
    ("Dropout", 10),
    ("PRelu", 7),
    ("Resize", 13),
    ("RoiAlign", 16),
    ("Split", 18),
}


def raise_opset(model: ir.Model, target: int = TARGET) -> bool:
    """Raise the standard operator set of a model and its functions to `target`, in place.

    Returns:
        Whether anything changed; if not, and the model is older, the log says why.
    """
    oldest = min(root.opset_imports.get("", target) for root in roots(model))
    if oldest >= target:
        return False
    try:
        adapted = list(_adapted(model, target))
        if adapted:
            infer_shapes(model)
        names = Names(model)
        pending = [adapter(node, since, names) for node, since, adapter in adapted]
        for steps in pending:
            next(steps)  # up to the yield, where an adapter has looked at everything it needs
    except (Unchanged, InvalidGraphError) as reason:
        logger.info("the model stays at opset %d: %s", oldest, reason)
        return False
    for steps in pending:
        next(steps, None)
    for root in roots(model):
        root.opset_imports[""] = max(target, root.opset_imports.get("", target))
    needed = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", target)])
    model.ir_version = max(model.ir_version, needed)
    logger.info("raised the model from opset %d to %d", oldest, target)
    return True


def _adapted(model: ir.Model, target: int) -> Iterator[tuple[ir.Node, int, Adapter]]:
    """Every node that must be said differently, and the version that it is at.

    Raises:
        Unchanged: If there is an operator without an adapter.
    """
    for root in roots(model):
        version = root.opset_imports.get("", target)
        if version < _OLDEST:
            raise Unchanged(f"operators before opset {_OLDEST} have no adapters")
        for node in root.all_nodes() if version < target else ():
            if node.domain or node.op_identifier() in model.functions:
                continue
            if _means_the_same(node.op_type, version, target):
                continue
            if any(attr.is_ref() for attr in node.attributes.values()):
                raise Unchanged(f"{node.op_type} takes an attribute from its function's call")
            if node.op_type not in ADAPTERS or not node.inputs:
                raise Unchanged(f"{node.op_type} has changed, and has no adapter")
            yield node, version, ADAPTERS[node.op_type]


@functools.cache
def _means_the_same(op_type: str, version: int, target: int) -> bool:
    """Whether a node of one operator set may stand in the other as it is."""
    history = _history().get(op_type, {})
    before = max((since for since in history if since <= version), default=None)
    if before is None:
        return False
    for since in sorted(history):
        if version < since <= target:
            if (op_type, since) in _OTHER_MEANING:
                return False
            if not _is_widened(history[before], history[since]):
                return False
            before = since
    return True


@functools.cache
def _history() -> dict[str, dict[int, onnx.defs.OpSchema]]:
    """The schemas of each standard operator, by the version they came with."""
    history: dict[str, dict[int, onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            history.setdefault(schema.name, {})[schema.since_version] = schema
    return history


def _is_widened(old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> bool:
    """Whether `new` adds to `old` only types, and inputs, outputs and attributes with defaults."""
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    for before, after in ((old.inputs, new.inputs), (old.outputs, new.outputs)):
        if len(after) < len(before) or any(p.option != optional for p in after[len(before) :]):
            return False
        for a, b in zip(before, after, strict=False):
            if a.name != b.name or b.option not in (a.option, optional):
                return False
    for name, attr in old.attributes.items():
        if name not in new.attributes or _default(attr) != _default(new.attributes[name]):
            return False
    added = new.attributes.keys() - old.attributes.keys()
    return not new.deprecated and not any(new.attributes[name].required for name in added)


def _default(attr: onnx.defs.OpSchema.Attribute) -> tuple[object, object]:
    return attr.type, attr.default_value.SerializeToString()
