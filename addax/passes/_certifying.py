"""Recording a certificate: the instrument behind `optimize(verify=True)`."""

from collections import Counter
from typing import Any

import onnx_ir as ir

from addax.errors import VerificationError
from addax.ir.builder import Replacement
from addax.ir.certificate import (
    EVIDENCE,
    Certificate,
    Examiner,
    Finding,
    Numbering,
    Step,
    encode_attributes,
    encode_tensor,
)
from addax.ir.interpret import nearest
from addax.ir.origin import describe
from addax.ir.rule import Rule
from addax.passes._instrument import Instrument, Rewrite


class Certify(Instrument):
    """Proves or measures every rewrite before it is committed, and writes down what it did.

    Raises:
        VerificationError: A rewrite changes what the model computes; nothing of it was done.
    """

    def __init__(self, model: ir.Model) -> None:
        self.steps: list[Step] = []
        self._model = model
        self._numbering: Numbering | None = None
        self._examiner = Examiner(model)
        self._pending: tuple[Finding, tuple[int, ...], tuple[int, ...], str] | None = None

    @property
    def distinct(self) -> int:
        """How many different rewrites were looked at."""
        return self._examiner.distinct

    def certificate(self, version: str) -> Certificate:
        """The steps so far, sealed."""
        return Certificate.of(self.steps, version)

    @property
    def summary(self) -> str:
        """What was found, in one line."""
        counts = Counter(step.evidence for step in self.steps)
        told = ", ".join(f"{counts[name]} {name}" for name in EVIDENCE if counts[name])
        chance = sum(step.error_probability for step in self.steps)
        return (
            f"{len(self.steps)} steps certified, {self.distinct} of them different: "
            f"{told or 'none'}; chance that a proof is wrong below {max(chance, 1e-300):.1g}"
        )

    def before_pass(self, name: str, model: ir.Model) -> None:
        if self._numbering is None:
            self._numbering = Numbering(model)

    @property
    def _numbers(self) -> Numbering:
        if self._numbering is None:
            raise VerificationError("a rewrite came before any pass had begun")
        return self._numbering

    def on_rewrite(self, rewrite: Rewrite) -> None:
        rule = rewrite.matcher.rule
        matched = nearest(rule, rewrite.root).nodes
        found = self._examiner.examine(rewrite.replacement, matched, rule.exact.value)
        where = describe(rewrite.root)
        if found.refuted:
            raise VerificationError(
                f"rule {rule.name!r} changes what {where} computes: {found.detail}; nothing was "
                "rewritten; report this with the model, or leave the rule's family out by pipeline="
            )
        numbers = self._numbers
        self._pending = (
            found,
            tuple(numbers[value] for value in rewrite.root.outputs),
            tuple(numbers[node.outputs[0]] for node in matched if node.outputs),
            where,
        )

    def after_rewrite(self, rewrite: Rewrite, arrivals: list[ir.Node]) -> None:
        if self._pending is None:
            raise VerificationError("a rewrite was committed that nobody had announced")
        (found, replaced, matched, where), self._pending = self._pending, None
        replacement, rule = rewrite.replacement, rewrite.matcher.rule
        bodies = tuple(_place(replacement.root, body) for body in replacement.bodies)
        nodes = [node for node in arrivals if not self._is_old(node, replacement)]
        constants = self._constants(replacement, nodes)
        encoded = tuple(self._node(node) for node in nodes)
        self.steps.append(
            Step(
                rule=rule.name,
                exact=rule.exact.value,
                kind="rewrite",
                where=where,
                replaced=replaced,
                outputs=self._outputs(replacement, nodes),
                matched=matched,
                bindings=_bindings(rewrite),
                constants=constants,
                nodes=encoded,
                bodies=bodies,
                evidence=found.evidence,
                detail=found.detail,
                error_probability=found.error_probability,
            )
        )

    def on_share(self, rule: Rule, old: ir.Value, new: ir.Value) -> None:
        numbers = self._numbers
        self.steps.append(
            Step(
                rule=rule.name,
                exact=rule.exact.value,
                kind="share",
                where=f"initializer {old.name}",
                replaced=(numbers[old],),
                outputs=(numbers[new],),
                detail="the initializers have the same bits",
            )
        )

    def _is_old(self, node: ir.Node, replacement: Replacement) -> bool:
        """Whether a node was moved here, or only holds a constant of a function."""
        value = node.outputs[0]
        return value in self._numbers or value in replacement.constants

    def _constants(
        self, replacement: Replacement, nodes: list[ir.Node]
    ) -> tuple[dict[str, Any], ...]:
        """The new constants that something reads, each after those that its formula reads."""
        needed = {v for node in nodes for v in node.inputs if v is not None}
        needed |= set(replacement.outputs)
        for value in reversed(list(replacement.constants)):
            if value in needed and value in replacement.folded:
                needed |= {v for v in replacement.folded[value].inputs if v is not None}
        return tuple(
            self._constant(value, replacement)
            for value in replacement.constants
            if value in needed and value not in self._numbers
        )

    def _constant(self, value: ir.Value, replacement: Replacement) -> dict[str, Any]:
        number = self._numbers.add(value)
        derivation = replacement.folded.get(value)
        if derivation is None:
            if value.const_value is None:
                raise VerificationError(f"constant {value.name!r} of a rewrite has no tensor")
            return {"id": number, **encode_tensor(value.const_value)}
        return {
            "id": number,
            "op": derivation.op_type,
            "inputs": [None if v is None else self._numbers[v] for v in derivation.inputs],
            "attributes": encode_attributes(derivation.onnx_attributes),
            "index": derivation.index,
            "count": derivation.count,
        }

    def _node(self, node: ir.Node) -> dict[str, Any]:
        return {
            "op": node.op_type,
            "domain": node.domain,
            "overload": node.overload,
            "inputs": [None if v is None else self._numbers[v] for v in node.inputs],
            "outputs": [self._numbers.add(value) for value in node.outputs],
            "attributes": encode_attributes(node.attributes),
        }

    def _outputs(self, replacement: Replacement, nodes: list[ir.Node]) -> tuple[int | None, ...]:
        """What took the places of the root's outputs: an Identity may stand before it."""
        own = set(replacement.nodes)
        pinned = {n.inputs[0]: n.outputs[0] for n in nodes if n not in own}
        found: list[int | None] = []
        for old, new in zip(replacement.root.outputs, replacement.outputs, strict=False):
            del old
            taken = None if new is None else pinned.get(new, new)
            found.append(None if taken is None else self._numbers[taken])
        return (*found, *[None] * (len(replacement.root.outputs) - len(found)))


def _bindings(rewrite: Rewrite) -> dict[str, str]:
    """The names of what the build function was given."""
    code = rewrite.matcher.rule.build.__code__
    names = code.co_varnames[1 : code.co_argcount]
    return {
        name: str(argument.name)
        for name, argument in zip(names, rewrite.arguments, strict=False)
        if isinstance(argument, ir.Value) and argument.name
    }


def _place(root: ir.Node, body: ir.Graph) -> tuple[str, int]:
    """Which attribute of the root holds a subgraph, and where in it."""
    for name, attribute in root.attributes.items():
        if attribute.type == ir.AttributeType.GRAPH and attribute.value is body:
            return name, 0
        if attribute.type == ir.AttributeType.GRAPHS and body in attribute.value:
            return name, list(attribute.value).index(body)
    raise VerificationError(f"a rewrite moves a subgraph that {describe(root)} does not have")
