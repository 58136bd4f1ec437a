"""Which rewrite took an operator away, and which made one: what pictures are coloured by."""

import onnx_ir as ir

from addax.ir.origin import origin
from addax.passes._instrument import Instrument, Rewrite


class Lineage(Instrument):
    """Writes down which rule took each operator away: `gone[key_of(node)]`.

    Give it to `run_pipeline(instruments=[...])`. Operators that are in the model before and not
    after, and not in `gone`, were dead.
    """

    def __init__(self) -> None:
        self.gone: dict[str, str] = {}

    def on_rewrite(self, rewrite: Rewrite) -> None:
        """Note the operators that this rewrite leaves without a reader."""
        for node in _dying(rewrite.root):
            self.gone.setdefault(key_of(node), rewrite.matcher.rule.name)


def _dying(root: ir.Node) -> set[ir.Node]:
    """A node about to be replaced, and those that nobody reads without it."""
    dying, waiting = {root}, [root]
    while waiting:
        for value in waiting.pop().inputs:
            node = None if value is None else value.producer()
            if node is None or node in dying or any(v.is_graph_output() for v in node.outputs):
                continue
            if all(reader in dying for v in node.outputs for reader in v.consumers()):
                dying.add(node)
                waiting.append(node)
    return dying


def rules_of(model: ir.Model) -> dict[str, str]:
    """The last rule that each operator of the main graph went through, by `key_of` the node."""
    found = {}
    for node in model.graph:
        where = origin(node)
        if where is not None and where.rules:
            found[key_of(node)] = where.rules[-1]
    return found


def key_of(node: ir.Node) -> str:
    """What tells an operator from all others of its graph: the name of its first named output.

    Nodes may have no names. What a rewrite makes takes over the names of outputs, so the key alone
    does not tell an operator from the one that took its place.
    """
    return next((str(value.name) for value in node.outputs if value.name), "")
