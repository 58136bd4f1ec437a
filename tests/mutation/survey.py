"""Every mutant of a family before the laws, its other tests and random models."""

import contextlib
import functools
import hashlib
import importlib
import io
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import pytest

from addax.passes._family import Family, families
from addax.testing.cases import Case
from addax.testing.strategies.arrays import Kind, feeds_for
from addax.testing.strategies.graphs import assemble
from tests.mutation.laws import Expected, broken, expected, load
from tests.mutation.mutants import Mutant, mutants_of
from tests.passes.test_laws import CASES

MEANING = ("numbers", "proof", "fires", "declines", "valid", "settles", "ends", "crashes", "time")
WITNESSES = (*MEANING, "tests", "random", "fewer", "text")
_SECONDS = 20  # a mutant may take
_MODELS = 40
_TESTS = Path(__file__).parents[1] / "passes"


@dataclass
class Survey:
    """What became of the mutants of one family. `killed` says by which law."""

    family: str
    killed: list[tuple[Mutant, str]] = field(default_factory=list)
    survivors: list[Mutant] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.killed) + len(self.survivors)

    @property
    def witnesses(self) -> Counter[str]:
        """How many mutants each law killed."""
        return Counter(law for _, law in self.killed)

    @property
    def scaled(self) -> Counter[str]:
        """The same, of the mutants that scale something."""
        return Counter(law for mutant, law in self.killed if mutant.kind == "scale")

    def __str__(self) -> str:
        laws = ", ".join(f"{self.witnesses[w]} {w}" for w in WITNESSES if self.witnesses[w])
        return f"{self.family}: {len(self.killed)} of {self.count} killed ({laws})"


def survey(name: str) -> Survey:
    """Put every mutant of the family called `name` on trial."""
    warnings.simplefilter("ignore")
    trial = _Trial(name)
    for case in CASES:
        if case.family == name:
            trial.add(case)
    result = Survey(name)
    for mutant in mutants_of(trial.path):
        law = trial.of(mutant)
        if law is None:
            result.survivors.append(mutant)
        else:
            result.killed.append((mutant, law))
    return result


class _Trial:
    """The cases of a family, and which functions each of them calls."""

    def __init__(self, name: str) -> None:
        self.name, self.module = name, f"addax.passes.{name.replace('-', '_')}"
        self.path = Path(str(importlib.import_module(self.module).__file__))
        self.code = compile(self.path.read_text("utf-8"), str(self.path), "exec")
        self.known: list[Expected] = []
        self.called: list[frozenset[int]] = []

    def add(self, case: Case) -> None:
        """Run a case with a family that nobody has used, so that its patterns are traced too."""
        made: list[Expected] = []
        called = _lines_called(
            str(self.path), lambda: made.append(expected(load(self.module, self.code), case))
        )
        self.known += made
        self.called.append(called)

    def of(self, mutant: Mutant) -> str | None:
        """The law that kills a mutant, or None."""
        known = [
            case
            for case, called in zip(self.known, self.called, strict=True)
            if mutant.starts is None or mutant.starts in called
        ]
        try:
            with _limited(_SECONDS):
                family = load(self.module, mutant.compile())
        except Exception:
            return "crashes"
        try:
            with _limited(_SECONDS):
                law = broken(family, known, mutant.kind)
            if law in {None, "fewer", "text"}:
                with _limited(3 * _SECONDS), _instead(self.name, family):
                    law = _by_other_tests(self.name) or self._by_random_models(mutant) or law
        except TimeoutError:
            return "time"
        return law

    def _by_random_models(self, mutant: Mutant) -> str | None:
        for number, called in enumerate(self.random):
            if mutant.starts is None or mutant.starts in called:
                try:
                    _check_random(number)
                except TimeoutError:
                    raise
                except Exception:
                    return "random"
        return None

    @functools.cached_property
    def random(self) -> list[frozenset[int]]:
        """Which functions of the family each random model calls."""
        found = []
        real = families()[self.name]
        for number in range(_MODELS):
            fresh = load(self.module, self.code)
            with _instead(self.name, fresh):
                act = functools.partial(_check_random, number)
                found.append(_lines_called(str(self.path), act))
        assert families()[self.name] is real
        return found


def _lines_called(path: str, act: Callable[[], object]) -> frozenset[int]:
    """The first lines of the functions of a file that `act` calls."""
    lines: set[int] = set()

    def record(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == path:
            lines.add(frame.f_code.co_firstlineno)

    sys.setprofile(record)
    try:
        act()
    finally:
        sys.setprofile(None)
    return frozenset(lines)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"a mutant took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _instead(name: str, family: Family) -> Iterator[None]:
    """The changed family in the place of the real one, in every pipeline that is made."""
    known = families()
    real = known[name]
    known[name] = family
    try:
        yield
    finally:
        known[name] = real


def _by_other_tests(name: str) -> str | None:
    """Whether the family's own test file, if it has one, fails."""
    path = _TESTS / f"test_{name.replace('-', '_')}.py"
    if not path.exists():
        return None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", str(path)])
    return None if status == pytest.ExitCode.OK else "tests"


def _check_random(number: int) -> None:
    """Everything that the exact passes promise, of the random model with this number."""
    from tests.soundness import check

    header, *pieces = (
        hashlib.blake2b(f"{number} {k}".encode(), digest_size=16).digest() for k in range(9)
    )
    model = assemble(header, pieces)
    kind = (Kind.PLAIN, Kind.WHOLE, Kind.MIXED)[number % 3]
    check(model, feeds_for(model.graph.inputs, kind, number, {"N": 2 + number % 2}))
