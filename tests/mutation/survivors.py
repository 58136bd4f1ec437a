"""The mutants that live, each with the reason why no test can or need tell it from the original.

`survivors.txt` holds paragraphs: a reason after `#`, on one line or more, and below it the mutants
that it is about, as `python -m tests.mutation FAMILY --list` prints them.
"""

from collections.abc import Iterable
from pathlib import Path

from tests.mutation.survey import Survey

PATH = Path(__file__).with_name("survivors.txt")


def read(text: str) -> dict[str, str]:
    """The reason for each listed mutant.

    Raises:
        ValueError: If a mutant is listed twice, or without a reason.
    """
    reasons: dict[str, str] = {}
    for paragraph in text.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line.strip()]
        reason = " ".join(line[1:].strip() for line in lines if line.startswith("#"))
        for key in (line for line in lines if not line.startswith("#")):
            if key in reasons or not reason:
                raise ValueError(f"expected one reason for each survivor, but not for {key!r}")
            reasons[key] = reason
    return reasons


def complaints(surveys: Iterable[Survey], reasons: dict[str, str]) -> list[str]:
    """What the table does not say, and what it says that is not so."""
    surveys = list(surveys)
    survivors = {m.key: m for s in surveys for m in s.survivors}
    stems = {s.family.replace("-", "_") for s in surveys}
    found = [f"not killed: {m}\n    {key}" for key, m in survivors.items() if key not in reasons]
    killed = {m.key: law for s in surveys for m, law in s.killed}
    for key in reasons:
        if key.partition(".")[0] in stems and key not in survivors:
            why = f"killed by {killed[key]}" if key in killed else "no such mutant"
            found.append(f"listed as a survivor, but {why}: {key}")
    by_text = [m for s in surveys for m, law in s.killed if m.kind == "scale" and law == "text"]
    found += [f"a change of 1 % that only a golden notices: {m}" for m in by_text]
    return found
