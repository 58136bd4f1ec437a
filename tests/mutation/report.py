"""Runs of all families in processes of their own, and what is printed of them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import addax.passes
from addax.passes._family import families
from tests.mutation.mutants import mutants_of
from tests.mutation.survey import MEANING, Survey, survey

LEAST = 0.95  # of all mutants have to be killed


def mutated() -> list[str]:
    """The families, those with most mutants first."""
    folder = Path(addax.passes.__path__[0])
    counts = {
        name: len(mutants_of(folder / f"{name.replace('-', '_')}.py"))
        for name, family in families().items()
        if family.is_exact
    }
    return sorted(counts, key=lambda name: -counts[name])


def surveys(names: Iterable[str], jobs: int) -> Iterator[Survey]:
    """Survey families side by side; in the order of their names here."""
    if jobs < 2:
        yield from map(survey, names)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(survey, names)


def totals(found: Iterable[Survey]) -> str:
    """The last line."""
    found = list(found)
    laws: Counter[str] = sum((s.witnesses for s in found), Counter())
    scaled: Counter[str] = sum((s.scaled for s in found), Counter())
    count = sum(s.count for s in found)
    killed, meaning = sum(laws.values()), sum(laws[law] for law in MEANING)
    shown = sum(scaled[law] for law in ("numbers", "proof"))
    changed = sum(m.kind == "scale" for s in found for m in s.survivors) + sum(scaled.values())
    return (
        f"{killed} of {count} mutants killed ({share(found):.1%}): {meaning} by meaning, "
        f"{laws['tests']} by other tests, {laws['random']} by random models, {laws['fewer']} "
        f"since they fire less often, {laws['text']} by text alone; of {changed} changes of 1 %, "
        f"{shown} by numbers or proof, {scaled['text']} by text alone; {count - killed} survivors"
    )


def share(found: Iterable[Survey]) -> float:
    """The part of all mutants that is killed."""
    found = list(found)
    return sum(len(s.killed) for s in found) / max(1, sum(s.count for s in found))
