"""Replaying a certificate: is the optimized model what these steps make of the original?"""

from dataclasses import dataclass

import onnx_ir as ir

from addax.errors import AddaxError
from addax.ir.certificate._checker import Checker, Rejected
from addax.ir.certificate._steps import Certificate
from addax.ir.diff import structural_diff

__all__ = ["Replay", "replay"]


@dataclass(frozen=True)
class Replay:
    """The outcome: whether every step holds and leads to the optimized model, or why not.

    A step that is "unchecked" could be neither proved nor measured, and an "approximate" one
    promises no equality: `is_complete` says that there are none of these.
    """

    holds: bool
    detail: str
    steps: int
    distinct: int
    proved: int
    measured: int
    approximate: int
    unchecked: int
    error_probability: float

    @property
    def is_complete(self) -> bool:
        """Whether the certificate holds and every step was proved or measured."""
        return self.holds and not (self.unchecked or self.approximate)

    def __str__(self) -> str:
        counts = [
            f"{count} {name}"
            for name in ("proved", "measured", "approximate", "unchecked")
            if (count := getattr(self, name))
        ]
        listed = f" ({', '.join(counts)})" if counts else ""
        return f"{'holds' if self.holds else 'rejected'}: {self.detail}{listed}"


def replay(
    original: ir.Model,
    optimized: ir.Model,
    certificate: Certificate,
    *,
    allow_approximate: bool = False,
) -> Replay:
    """Check a certificate; neither model is changed.

    What is trusted: the reading of both files, NumPy, and the code that proves and measures. What
    is not: the passes that optimized the model, and the certificate.

    Args:
        original: The model before, as `addax.frontend.to_ir` reads it.
        optimized: The model after.
        certificate: What `optimize(verify=True)` wrote.
        allow_approximate: Accept steps that promise no equality. Anybody can call a step
            approximate, so one is rejected unless the caller expects it.
    """
    checker = Checker(original, optimized)
    before = ""
    for position, step in enumerate(certificate.steps):
        where = f"step {position}, {step.rule} at {step.where}"
        if step.digest != step.expected_digest(before):
            why = "its digest does not follow: a step was edited, moved, added or left out"
            return _outcome(checker, certificate, f"{where}: {why}", holds=False)
        before = step.digest
        if step.exact == "approximate" and not allow_approximate:
            why = "an approximate step promises no equality; allow_approximate=True accepts it"
            return _outcome(checker, certificate, f"{where}: {why}", holds=False)
        try:
            checker.check(step)
        except Rejected as rejected:
            return _outcome(checker, certificate, f"{where}: {rejected}", holds=False)
    if before != certificate.seal:
        why = "the last steps are missing: the seal is not that of the last one"
        return _outcome(checker, certificate, why, holds=False)
    try:
        difference = structural_diff(checker.finish(), optimized)
    except (AddaxError, RuntimeError, TypeError, ValueError) as error:
        why = f"the steps lead to no model: {error}"
        return _outcome(checker, certificate, why, holds=False)
    if difference is not None:
        why = f"the steps do not lead to the optimized model (left: the steps): {difference}"
        return _outcome(checker, certificate, why, holds=False)
    detail = f"{len(certificate.steps)} steps lead from the original to the optimized model"
    return _outcome(checker, certificate, detail, holds=True)


def _outcome(checker: Checker, certificate: Certificate, detail: str, *, holds: bool) -> Replay:
    counts = checker.evidence
    return Replay(
        holds,
        detail,
        len(certificate.steps),
        checker.distinct,
        counts["proved"],
        counts["measured"],
        counts["approximate"],
        counts["unchecked"],
        min(1.0, checker.error_probability),
    )
