"""What `optimize` did: sizes before and after, every rule's history, why it declined elsewhere."""

import contextlib
import io
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from rich.console import Console
from rich.table import Table

from addax.errors import ModelFileError
from addax.ir.cost import Cost, total_cost, weight_bytes
from addax.ir.statistics import Layer
from addax.passes._statistics import Statistics

if TYPE_CHECKING:
    from addax.planner import PlanRecord
    from addax.report_page import Pictures

_REASONS_SHOWN = 3
_INTEGER_WORK = {
    "byte_multiplies": "multiplies of 8 bits",
    "integer_adds": "adds of integers",
    "shifts": "shifts",
    "table_reads": "table reads",
}


@dataclass(frozen=True)
class Size:
    """A graph's size: nodes in all scopes, bytes of weights, and the cost of one evaluation.

    Symbolic dimensions count as 1 in `cost`: a dynamic batch is a batch of one.
    """

    nodes: int
    weight_bytes: int
    cost: Cost

    @property
    def microjoules(self) -> float:
        """Arithmetic energy by the papers' 45 nm figures: a model, not a measurement."""
        return self.cost.energy / 1e6

    @staticmethod
    def of(model: ir.Model) -> "Size":
        """Measure a model."""
        nodes = sum(1 for _ in model.graph.all_nodes())
        return Size(nodes, weight_bytes(model), total_cost(model))


@dataclass(frozen=True)
class RuleReport:
    """One rule's history: how often it matched and applied, and why it declined, by reason.

    `declined[reason]` lists the nodes it was given for.
    """

    name: str
    exactness: str
    where: str
    tried: int
    applied: int
    seconds: float
    declined: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The record of one `optimize` call. `print(report)` is for people, `to_json` for programs."""

    pipeline: str
    before: Size
    after: Size
    rules: tuple[RuleReport, ...]
    visits: int
    seconds: float
    notes: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    plan: "PlanRecord | None" = None
    pictures: "Pictures | None" = field(default=None, repr=False, compare=False)

    @staticmethod
    def of(
        pipeline: str,
        before: Size,
        after: Size,
        statistics: Statistics,
        seconds: float,
        notes: tuple[str, ...] = (),
        layers: tuple[Layer, ...] = (),
    ) -> "Report":
        """Sum up a run."""
        rules = tuple(
            RuleReport(
                entry.rule.name,
                entry.rule.exact.value,
                entry.rule.where,
                entry.tried,
                entry.applied,
                entry.seconds,
                {reason: tuple(nodes) for reason, nodes in entry.declined.items()},
            )
            for entry in statistics.values()
        )
        return Report(pipeline, before, after, rules, statistics.visits, seconds, notes, layers)

    @property
    def rewrites(self) -> int:
        """How many rewrites were applied."""
        return sum(rule.applied for rule in self.rules)

    @property
    def exactness(self) -> str:
        """The weakest promise among the rewrites applied."""
        applied = {rule.exactness for rule in self.rules if rule.applied}
        order = ("approximate", "reassociated", "bitwise")
        return next((name for name in order if name in applied), "bitwise")

    def to_json(self) -> str:
        """The whole report as one line of JSON."""
        plain = asdict(replace(self, pictures=None))
        del plain["pictures"]
        return json.dumps(plain | {"rewrites": self.rewrites, "exactness": self.exactness})

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report as a page of its own: no network, no script, no other file.

        With the plan and its frontier if a budget was given, and the graph before and after.

        Raises:
            ModelFileError: If it cannot be written; nothing half-written stays.
        """
        from addax.report_page import page

        text, place = page(self, self.pictures), Path(path)
        part = place.with_name(f".{place.name}.part")
        try:
            part.write_text(text, "utf-8")
            part.replace(place)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise ModelFileError(
                f"expected a place where a report can be written, got {str(path)!r}: {error}"
            ) from error

    def __str__(self) -> str:
        text = io.StringIO()
        Console(width=100, file=text).print(self)
        return text.getvalue()

    def __rich_console__(self, console: Console, options: Any) -> Any:
        yield self._sizes()
        yield self._history()
        if self.plan is not None:
            yield self.plan
        if self.layers:
            yield self._layers()
        if latency := self._latency():
            yield latency
        yield (
            f"{self.rewrites} rewrites, {self.exactness}, in {self.seconds:.2f} s "
            f"({self.visits} visits)"
        )
        yield from self.notes

    def _sizes(self) -> Table:
        table = Table(title="addax", title_justify="left", show_edge=False)
        for heading in ("", "before", "after", "ratio"):
            table.add_column(heading, justify="left" if not heading else "right")
        rows: list[tuple[str, float, float]] = [
            ("nodes", self.before.nodes, self.after.nodes),
            ("weight bytes", self.before.weight_bytes, self.after.weight_bytes),
            ("multiplies", self.before.cost.multiplies, self.after.cost.multiplies),
            ("adds", self.before.cost.adds, self.after.cost.adds),
            *(
                (title, getattr(self.before.cost, name), getattr(self.after.cost, name))
                for name, title in _INTEGER_WORK.items()
                if getattr(self.before.cost, name) or getattr(self.after.cost, name)
            ),
            ("energy, uJ (45 nm model)", self.before.microjoules, self.after.microjoules),
        ]
        for name, old, new in rows:
            table.add_row(name, _figure(old), _figure(new), f"{new / old:.3f}" if old else "-")
        return table

    def _history(self) -> Table:
        table = Table(show_edge=False)
        table.add_column("rule", no_wrap=True)
        table.add_column("applied", justify="right")
        table.add_column("ms", justify="right")
        table.add_column("declined because", overflow="fold")
        for rule in sorted(self.rules, key=lambda r: (-r.applied, r.name)):
            reasons = sorted(rule.declined.items(), key=lambda item: -len(item[1]))
            text = "; ".join(f"{why} ({len(nodes)})" for why, nodes in reasons[:_REASONS_SHOWN])
            more = len(reasons) - _REASONS_SHOWN
            table.add_row(
                rule.name,
                str(rule.applied),
                f"{rule.seconds * 1e3:.1f}",
                text + (f"; and {more} more" if more > 0 else ""),
            )
        return table

    def _layers(self) -> Table:
        table = Table(show_edge=False)
        table.add_column("layer", overflow="fold")
        headings = ("size", "format", "bits", "weight\nerror", "output\nerror", "bytes\nbefore")
        for heading in (*headings, "bytes\nafter"):
            table.add_column(heading, justify="right", no_wrap=True)
        for layer in self.layers:
            table.add_row(
                layer.name,
                f"{layer.outputs} x {layer.inputs}",
                layer.format,
                str(layer.bits),
                f"{layer.weight_error:.4f}",
                "-" if layer.output_error is None else f"{layer.output_error:.4f}",
                f"{layer.bytes_before:,}",
                f"{layer.bytes_after:,}",
            )
        before, after = (
            sum(getattr(layer, f"bytes_{when}") for layer in self.layers)
            for when in ("before", "after")
        )
        table.add_section()
        table.add_row("all", "", "", "", "", "", f"{before:,}", f"{after:,}")
        return table

    def _latency(self) -> Table | None:
        """Microseconds of each layer, in those columns that have any; None if there are none."""
        columns = {
            heading: [getattr(layer, name) for layer in self.layers]
            for heading, name in _LATENCIES.items()
        }
        known = {heading: figures for heading, figures in columns.items() if any(figures)}
        if not known:
            return None
        table = Table(show_edge=False, caption=_ABOUT_LATENCY, caption_justify="left")
        table.add_column("layer", overflow="fold")
        for heading in ("rows", "code path", *known):
            table.add_column(heading, justify="right", no_wrap=True)
        for place, layer in enumerate(self.layers):
            rows = "-" if layer.rows is None else f"{layer.rows:,}"
            figures = (_microseconds(column[place]) for column in known.values())
            table.add_row(layer.name, rows, layer.code_path or "-", *figures)
        sums = (sum(f for f in figures if f is not None) for figures in known.values())
        table.add_section()
        table.add_row("all", "", "", *map(_microseconds, sums))
        return table


_ABOUT_LATENCY = (
    "rows: in one evaluation, dimensions known only at run time as 1; predicted: by a table of "
    "rates, on one thread; measured: the layer alone, on one thread of this machine"
)
_LATENCIES = {
    "predicted us\nbefore": "predicted_before",
    "predicted us\nafter": "predicted_after",
    "measured us\nbefore": "measured_before",
    "measured us\nafter": "measured_after",
}


def _microseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
