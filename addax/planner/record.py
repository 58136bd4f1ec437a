"""What a plan was: for reports, for programs, and for the next plan."""

import io
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Totals:
    """What a model takes; None where nobody knows.

    Attributes:
        error: |y - y'| / |y| of the outputs.
        bytes: Of its weights.
        seconds: Of one evaluation of one sample on one thread.
        joules: Of its arithmetic, by the papers' 45 nm figures.
    """

    error: float
    bytes: int
    seconds: float | None = None
    joules: float | None = None


@dataclass(frozen=True)
class PlaceRecord:
    """What was chosen for one place.

    Attributes:
        name: Of the layer.
        family: That treats it; "" if it stays.
        label: Its format.
        outputs: N.
        inputs: K.
        rows: In one evaluation.
        local_error: Of its own output.
        share: Its part of the squared error of the model's output, 0 to 1.
        sensitivity: Error of the model's output for an error of 1 of its own, where both are small.
        bytes_before: Of its weights.
        bytes_after: Of its weights.
        microseconds_before: Predicted; None without a cost table.
        microseconds_after: Predicted.
        microjoules_before: Of its arithmetic, by the 45 nm model.
        microjoules_after: Of its arithmetic, by the 45 nm model.
        form: How it is computed, as the cost table names it.
    """

    name: str
    family: str
    label: str
    outputs: int
    inputs: int
    rows: int
    local_error: float
    share: float
    sensitivity: float
    bytes_before: int
    bytes_after: int
    microseconds_before: float | None
    microseconds_after: float | None
    microjoules_before: float
    microjoules_after: float
    form: str


@dataclass(frozen=True)
class Point:
    """The best plan for one error, as predicted; `counts` says how many places have which label."""

    error: float
    bytes: int
    seconds: float | None
    joules: float
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Frontier:
    """Error against what it buys: plans with the least latency or energy, and with the least bytes.

    `objective` is what `fastest` makes least: "latency", or "energy" where no cost table is known.
    """

    objective: str
    fastest: tuple[Point, ...]
    smallest: tuple[Point, ...]

    def __str__(self) -> str:
        text = io.StringIO()
        Console(width=100, file=text).print(self)
        return text.getvalue()

    def __rich_console__(self, console: Console, options: Any) -> Any:
        for title, points in (
            (f"least {self.objective}", self.fastest),
            ("least bytes", self.smallest),
        ):
            table = Table(title=title, title_justify="left", show_edge=False)
            for heading in ("error", "bytes", "ms", "uJ", "what"):
                table.add_column(heading, justify="left" if heading == "what" else "right")
            for point in points:
                table.add_row(
                    f"{point.error:.4g}",
                    f"{point.bytes:,}",
                    "-" if point.seconds is None else f"{point.seconds * 1e3:.3f}",
                    f"{point.joules * 1e6:,.2f}",
                    ", ".join(f"{count} {label}" for label, count in sorted(point.counts.items())),
                )
            yield table


@dataclass(frozen=True)
class PlanRecord:
    """A plan: what was asked, what was chosen, what was predicted and what was measured.

    Attributes:
        budget: In words.
        places: What was chosen where.
        before: The model as its exact rewrites leave it; measured latency.
        predicted: What the plan should take, its error by adding up those of its places.
        measured: The same as it was measured on held-out samples and on this machine.
        score: Of the caller's metric on the plan's model; None without one.
        held_out: Samples that judged.
        rounds: Plans that were made and judged before one was taken.
        seconds: That planning took.
        costs: Where the figures of latency come from.
        frontier: The other plans that there are.
        notes: What the caller should know.
    """

    budget: str
    places: tuple[PlaceRecord, ...]
    before: Totals
    predicted: Totals
    measured: Totals
    score: float | None
    held_out: int
    rounds: int
    seconds: float
    costs: str
    frontier: Frontier
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = io.StringIO()
        Console(width=100, file=text).print(self)
        return text.getvalue()

    def __rich_console__(self, console: Console, options: Any) -> Any:
        yield self._totals()
        yield self._choices()
        score = "" if self.score is None else f"; metric {self.score:.4g}"
        yield (
            f"budget: {self.budget}{score}; judged on {self.held_out} held-out samples, "
            f"{self.rounds} plans tried, {self.seconds:.1f} s"
        )
        yield f"latency: {self.costs}"
        yield from self.notes

    def _totals(self) -> Table:
        table = Table(title="plan", title_justify="left", show_edge=False)
        table.add_column("")
        for heading in ("before", "predicted", "measured"):
            table.add_column(heading, justify="right")
        every = (self.before, self.predicted, self.measured)
        table.add_row("error of the outputs", *(f"{t.error:.4g}" for t in every))
        table.add_row("bytes of weights", *(f"{t.bytes:,}" for t in every))
        table.add_row("ms, one thread", *(_scaled(t.seconds, 1e3) for t in every))
        table.add_row("energy, uJ (45 nm model)", *(_scaled(t.joules, 1e6) for t in every))
        return table

    def _choices(self) -> Table:
        table = Table(show_edge=False)
        table.add_column("place", overflow="fold")
        headings = ("size", "choice", "own\nerror", "share of\nerror", "bytes\nbefore",
                    "bytes\nafter", "predicted\nus before", "predicted\nus after")  # fmt: skip
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        for place in self.places:
            table.add_row(
                place.name,
                f"{place.outputs} x {place.inputs}",
                place.label,
                f"{place.local_error:.4f}",
                f"{place.share:.3f}",
                f"{place.bytes_before:,}",
                f"{place.bytes_after:,}",
                _scaled(place.microseconds_before, 1),
                _scaled(place.microseconds_after, 1),
            )
        return table


def _scaled(value: float | None, factor: float) -> str:
    return "-" if value is None else f"{value * factor:,.3f}"
