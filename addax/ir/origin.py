"""Where a node came from: the place in the user's model, and the rules that made it what it is.

Both live in the node's metadata, so they survive files: `addax.origin` is the place,
`addax.rules` the comma-separated names of the rules applied since.
"""

import json
from dataclasses import dataclass

import onnx_ir as ir

ORIGIN = "addax.origin"
RULES = "addax.rules"


@dataclass(frozen=True)
class Origin:
    """A node's place in the user's model, and the rules that rewrote it, oldest first."""

    module: str
    op: str
    source: str = ""
    rules: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = self.module or "(top level)"
        source = f" at {self.source}" if self.source else ""
        rules = f" via {', '.join(self.rules)}" if self.rules else ""
        return f"{place} {self.op}{source}{rules}"


def set_origin(node: ir.Node, module: str, op: str, source: str = "") -> None:
    """Record that `node` implements `op` of the user's `module` (a dotted path)."""
    node.metadata_props[ORIGIN] = json.dumps([module, op, source], separators=(",", ":"))


def origin(node: ir.Node) -> Origin | None:
    """The recorded origin of `node`, or None for a node that nobody described."""
    text = node.metadata_props.get(ORIGIN)
    rules = tuple(filter(None, node.metadata_props.get(RULES, "").split(",")))
    if text is None:
        return Origin("", node.op_type, rules=rules) if rules else None
    module, op, source = json.loads(text)
    return Origin(module, op, source, rules)


def inherit(node: ir.Node, parents: tuple[ir.Node, ...], rule: str) -> None:
    """Give a new node its parents' history: the first known place, every rule, then `rule`."""
    rules: dict[str, None] = {}
    for parent in parents:
        props = parent.metadata_props
        if ORIGIN in props:
            node.metadata_props.setdefault(ORIGIN, props[ORIGIN])
        rules.update(dict.fromkeys(filter(None, props.get(RULES, "").split(","))))
    rules.pop(rule, None)
    node.metadata_props[RULES] = ",".join([*rules, rule])


def describe(node: ir.Node) -> str:
    """Name a node for a person: its name, operator, and origin if there is one."""
    where = origin(node)
    op = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
    return f"{op} {node.name!r}" + (f" ({where})" if where else "")
