"""Why a prepared rewrite is believed: a proof, or a measurement within rounding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from addax.errors import AddaxError
from addax.ir._field.region import nodes_replaced
from addax.ir.builder import Derivation, Replacement
from addax.ir.certificate._slices import sides
from addax.ir.certificate._steps import Evidence
from addax.ir.equivalence import compare
from addax.ir.proof import Proof, prove_rewrite

_DEPTHS = (0, 2, 6)
"""How far upstream a measurement looks, in turn."""


@dataclass(frozen=True)
class Finding:
    """The evidence for one rewrite; `refuted` says what was found against it."""

    evidence: Evidence
    detail: str
    error_probability: float = 0.0
    refuted: bool = False


class Examiner:
    """Finds evidence for rewrites of one model; equal rewrites are looked at once."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._proofs: dict[Any, Proof] = {}
        self._history: dict[ir.Value, Derivation] = {}
        self.distinct = 0

    def examine(self, replacement: Replacement, matched: Sequence[ir.Node], exact: str) -> Finding:
        """The evidence for a rewrite that has not been committed."""
        if exact == "approximate":
            return Finding("approximate", "the rule promises no equality; its error is measured")
        before = len(self._proofs)
        proof = prove_rewrite(
            replacement, self._model, matched=matched, known=self._proofs, history=self._history
        )
        self._history |= replacement.folded
        self.distinct += len(self._proofs) > before
        if proof.verdict == "proved":
            return Finding("proved", proof.detail, proof.error_probability)
        if proof.verdict == "refuted":
            return Finding("unchecked", proof.detail, refuted=True)
        return self._measured(replacement, matched, proof)

    def _measured(
        self, replacement: Replacement, matched: Sequence[ir.Node], proof: Proof
    ) -> Finding:
        told = proof.detail
        for depth in _DEPTHS:
            nodes = nodes_replaced(replacement, matched, depth=depth)
            try:
                before, after = sides(replacement, nodes, self._model)
                found = compare(before, after)
            except AddaxError as error:
                told = str(error)
                continue
            if found.holds:
                return Finding("measured", found.detail)
            told = found.detail
            if found.verdict == "different" and all(v.producer() is None for v in _read(nodes)):
                return Finding("unchecked", told, refuted=True)
        return Finding("unchecked", told)


def _read(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    made = {value for node in nodes for value in node.outputs}
    return [v for node in nodes for v in node.inputs if v is not None and v not in made]
