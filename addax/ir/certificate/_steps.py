"""Certificates: what was done to a model, step by step, so that anybody can check it.

A certificate holds no weights. Its steps name values by number (`Numbering`): inputs,
initializers and what nodes make, in the order of the original model, then what the steps made.
Each step says which rule replaced which values by what: new nodes, and new constants as formulas
of old ones. Digests are chained, so a step that is missing, moved or edited shows; but what is
believed is the proof of each step, which `replay` finds anew.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from addax.errors import InputError, ModelFileError
from addax.ir._staging import staged
from addax.ir.certificate._encoding import digest

__all__ = ["EVIDENCE", "Certificate", "Step"]

Kind = Literal["rewrite", "share"]
Evidence = Literal["proved", "measured", "approximate", "unchecked"]

EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)

_FORMAT = 1


@dataclass(frozen=True)
class Step:
    """One change of the model.

    Attributes:
        rule: The rule's name.
        exact: What the rule promises.
        kind: "rewrite": values get other makers; "share": readers of an initializer get an equal
            one.
        where: The node, for people: its name and where it came from.
        replaced: The outputs of the node that is replaced.
        outputs: What takes their places; None for an output that nobody reads.
        matched: The first output of each node that the rule looked at.
        bindings: The names that the pattern's variables were bound to, for people.
        constants: New constants: a formula of older ones, or elements.
        nodes: New nodes.
        bodies: Subgraphs of the replaced node that move to where it is: attribute and place.
        evidence: "proved" exactly; "measured" on drawn inputs within rounding; "approximate": the
            rule promises no equality; "unchecked": neither could be had.
        detail: What the evidence says.
        error_probability: The chance that a proof is wrong.
        digest: Of this step and all before it.
    """

    rule: str
    exact: str
    kind: Kind
    where: str
    replaced: tuple[int, ...]
    outputs: tuple[int | None, ...]
    matched: tuple[int, ...] = ()
    bindings: Mapping[str, str] = field(default_factory=dict)
    constants: tuple[Mapping[str, Any], ...] = ()
    nodes: tuple[Mapping[str, Any], ...] = ()
    bodies: tuple[tuple[str, int], ...] = ()
    evidence: Evidence = "proved"
    detail: str = ""
    error_probability: float = 0.0
    digest: str = ""

    def sealed(self, before: str) -> "Step":
        """The step with its digest, which follows `before`."""
        return replace(self, digest=self.expected_digest(before))

    def expected_digest(self, before: str) -> str:
        """The digest that this step must have after one with the digest `before`."""
        content = {name: item for name, item in vars(self).items() if name != "digest"}
        return digest(before, content)


@dataclass(frozen=True)
class Certificate:
    """The steps from an original model to an optimized one; `seal` is the last one's digest."""

    steps: tuple[Step, ...]
    addax: str
    seal: str = ""

    @staticmethod
    def of(steps: Iterable[Step], version: str) -> "Certificate":
        """A certificate with its digests."""
        sealed: list[Step] = []
        for step in steps:
            sealed.append(step.sealed(sealed[-1].digest if sealed else ""))
        return Certificate(tuple(sealed), version, sealed[-1].digest if sealed else "")

    def count(self, evidence: Evidence) -> int:
        """How many steps have this evidence."""
        return sum(step.evidence == evidence for step in self.steps)

    @property
    def error_probability(self) -> float:
        """A bound on the chance that any proof is wrong."""
        return min(1.0, sum(step.error_probability for step in self.steps))

    def to_json(self) -> str:
        """The certificate as text."""
        content = {"format": _FORMAT, **asdict(self)}
        return json.dumps(content, indent=1)

    @staticmethod
    def from_json(text: str) -> "Certificate":
        """Read a certificate.

        Raises:
            InputError: The text is none.
        """
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise InputError(
                    f"expected a certificate of format {_FORMAT}, got {content['format']!r}; it "
                    "was written by another version of addax"
                )
            steps = tuple(Step(**_with_tuples(step)) for step in content["steps"])
            return Certificate(steps, content["addax"], content["seal"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"expected the JSON of a certificate: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the certificate; it is there whole or not at all.

        Raises:
            ModelFileError: It cannot be written.
        """
        with staged(os.fspath(path)) as (file,):
            file.write(self.to_json().encode())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Certificate":
        """Read a certificate from a file.

        Raises:
            ModelFileError: It cannot be read.
            InputError: It is no certificate.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(f"cannot read certificate {os.fspath(path)!r}: {error}") from error
        return Certificate.from_json(text)


def _with_tuples(step: Any) -> dict[str, Any]:
    made = {key: tuple(item) if isinstance(item, list) else item for key, item in step.items()}
    made["bodies"] = tuple(map(tuple, made.get("bodies", ())))
    return made
