"""The report as one page of HTML, which needs no other file, no network and no script."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from addax.drawing import Lineage, draw, legend, rules_of
from addax.ir.model import clone

if TYPE_CHECKING:
    from addax.planner import PlanRecord
    from addax.report import Report

_OPERATORS = 240  # drawn one by one; beyond, blocks are drawn
_STYLE = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 1180px; padding: 0 20px 60px; background: #fff; color: #14202b;
  font: 14px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
h1 { font-size: 22px; margin: 22px 0 2px } h2 { font-size: 16px; margin: 30px 0 8px }
.quiet { color: #5a6672 } .cards { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 14px }
.card { border: 1px solid #d8dee4; border-radius: 6px; padding: 10px 14px; min-width: 170px }
.card b { display: block; font-size: 19px; font-weight: 600 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100% }
th, td { padding: 3px 9px; text-align: right; border-bottom: 1px solid #e8ecf0;
  white-space: nowrap }
th { font-weight: 600; border-bottom: 2px solid #c4ccd4; vertical-align: bottom }
td:first-child, th:first-child, .text { text-align: left; white-space: normal }
tr.sum td { border-top: 2px solid #c4ccd4; font-weight: 600 }
.bars { width: 92px; text-align: left }
.bar { display: inline-block; height: 9px; background: #1f6f8b; vertical-align: middle }
.bar.old { background: #cdd6dd } .scroll { overflow: auto; max-height: 720px;
  border: 1px solid #e0e5ea } .pair { display: flex; gap: 16px }
.pair > section { flex: 1 1 0; min-width: 0 } .chart { margin-right: 24px }
.axis { font-size: 11px; fill: #44505c } .grid { stroke: #e4e9ee }
details { margin: 6px 0 } summary { cursor: pointer } li { margin: 2px 0 }
"""


@dataclass(frozen=True)
class Pictures:
    """The graph before and after, and which rewrite took each operator away; no weights."""

    before: ir.Model
    after: ir.Model
    lineage: Lineage

    @staticmethod
    def of(before: ir.Model) -> "Pictures":
        """To be made before the rewrites, and given to them as an instrument: `lineage`."""
        return Pictures(_husk(before), before, Lineage())


def page(report: "Report", pictures: Pictures | None = None) -> str:
    """The whole page."""
    title = pictures.before.graph.name if pictures is not None else None
    parts = [
        f"<h1>addax: {escape(title or 'model')}</h1>",
        f'<div class="quiet">{report.rewrites} rewrites, {escape(report.exactness)}, in '
        f"{report.seconds:.1f} s</div>",
        _cards(report),
        *([] if report.plan is None else _plan(report.plan)),
        _sizes(report),
        _layers(report),
        _rules(report),
        _notes(report),
        "" if pictures is None else _graphs(pictures),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>addax: {escape(title or 'model')}</title><style>{_STYLE}</style></head><body>"
        + "\n".join(part for part in parts if part)
        + "</body></html>\n"
    )


# --- parts --------------------------------------------------------------------------------------


def _cards(report: "Report") -> str:
    before, after = report.before, report.after
    cards = [
        ("weights", _size(after.weight_bytes), f"before {_size(before.weight_bytes)}"),
        ("operators", f"{after.nodes:,}", f"before {before.nodes:,}"),
    ]
    if (plan := report.plan) is not None:
        made = plan.measured
        cards.insert(0, ("error of the outputs", f"{made.error:.3g}", "held-out samples"))
        if made.seconds is not None and plan.before.seconds is not None:
            old = f"before {plan.before.seconds * 1e3:.3g} ms, one thread"
            cards.append(("one evaluation", f"{made.seconds * 1e3:.3g} ms", old))
        cards.append(
            (
                "arithmetic",
                f"{(made.joules or 0) * 1e6:,.3g} uJ",
                f"before {(plan.before.joules or 0) * 1e6:,.3g} uJ; 45 nm model",
            )
        )
        if plan.score is not None:
            cards.append(("metric", f"{plan.score:.4g}", "of the budget"))
    shown = "".join(
        f'<div class="card"><span class="quiet">{name}</span><b>{value}</b>'
        f'<span class="quiet">{note}</span></div>'
        for name, value, note in cards
    )
    return f'<div class="cards">{shown}</div>'


def _plan(plan: "PlanRecord") -> Iterable[str]:
    from addax.planner.chart import charts

    every = (plan.before, plan.predicted, plan.measured)
    rows = [
        ["error of the outputs", *(f"{t.error:.4g}" for t in every)],
        ["bytes of weights", *(f"{t.bytes:,}" for t in every)],
        ["ms, one thread", *(_scaled(t.seconds, 1e3) for t in every)],
        ["energy, uJ (45 nm model)", *(_scaled(t.joules, 1e6) for t in every)],
    ]
    yield "<h2>The plan</h2>"
    yield (
        f"<p>Budget: {escape(plan.budget)}. {plan.rounds} plans were made and judged on "
        f"{plan.held_out} samples that nothing was chosen by, in {plan.seconds:.1f} s. "
        f"Latency: {escape(plan.costs)}.</p>"
    )
    yield _table(("", "before", "predicted", "measured"), rows)
    yield "<h2>Error against what it buys</h2>"
    yield (
        '<p class="quiet">Each point is the best plan for one error, as predicted; the large one '
        "is this plan, as measured.</p>"
    )
    yield f"<div>{charts(plan)}</div>"
    yield "<h2>Layer by layer</h2>"
    yield _choices(plan)


def _choices(plan: "PlanRecord") -> str:
    most = max((place.bytes_before for place in plan.places), default=1) or 1
    rows = []
    for place in plan.places:
        old, new = 90 * place.bytes_before / most, 90 * place.bytes_after / most
        bars = (
            f'<span class="bar" style="width:{new:.0f}px"></span>'
            f'<span class="bar old" style="width:{max(old - new, 0):.0f}px"></span>'
        )
        rows.append(
            [
                escape(place.name),
                f"{place.outputs} x {place.inputs}",
                f"{place.rows:,}",
                escape(place.label),
                f"{place.local_error:.4f}",
                f"{place.share:.1%}",
                f"{place.bytes_before:,} &rarr; {place.bytes_after:,}",
                f'<div class="bars">{bars}</div>',
                _arrow(place.microseconds_before, place.microseconds_after),
                _arrow(place.microjoules_before, place.microjoules_after),
            ]
        )
    headings = (
        "layer", "size", "rows", "choice", "own error", "share of error", "bytes", "",
        "predicted us", "uJ (45 nm model)",
    )  # fmt: skip
    return f'<div class="scroll">{_table(headings, rows)}</div>'


def _sizes(report: "Report") -> str:
    before, after = report.before, report.after
    rows = [
        [name, f"{old:,}", f"{new:,}", f"{new / old:.3f}" if old else "-"]
        for name, old, new in (
            ("nodes", before.nodes, after.nodes),
            ("weight bytes", before.weight_bytes, after.weight_bytes),
            ("multiplies", before.cost.multiplies, after.cost.multiplies),
            ("adds", before.cost.adds, after.cost.adds),
        )
    ]
    note = '<p class="quiet">Dimensions known only at run time count as 1.</p>'
    return f"<h2>Sizes</h2>{_table(('', 'before', 'after', 'ratio'), rows)}{note}"


def _layers(report: "Report") -> str:
    if not report.layers:
        return ""
    rows = [
        [
            escape(layer.name),
            f"{layer.outputs} x {layer.inputs}",
            escape(layer.format),
            "-" if layer.output_error is None else f"{layer.output_error:.4f}",
            escape(layer.code_path or "-"),
            _arrow(layer.predicted_before, layer.predicted_after),
            _arrow(layer.measured_before, layer.measured_after),
        ]
        for layer in report.layers
    ]
    headings = (
        "layer", "size", "format", "output error", "code path", "predicted us", "measured us",
    )  # fmt: skip
    return f"<h2>Code paths</h2>{_table(headings, rows)}"


def _rules(report: "Report") -> str:
    rows = [
        [
            escape(rule.name),
            escape(rule.exactness),
            f"{rule.applied:,}",
            f"{rule.seconds * 1e3:.1f}",
        ]
        for rule in sorted(report.rules, key=lambda rule: (-rule.applied, rule.name))
        if rule.applied
    ]
    shown = _table(("rule", "exactness", "applied", "ms"), rows)
    text = escape(report.pipeline)
    return (
        f"<h2>Rewrites</h2>{shown}"
        f'<details><summary>The pipeline, as text</summary><p class="quiet">{text}</p></details>'
    )


def _notes(report: "Report") -> str:
    notes = [*report.notes, *(report.plan.notes if report.plan is not None else ())]
    if not notes:
        return ""
    lines = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<h2>Certificates, kernels and notes</h2><ul>{lines}</ul>"


def _graphs(pictures: Pictures) -> str:
    gone, made = pictures.lineage.gone, rules_of(pictures.after)
    columns = "".join(
        f'<section><h2>{name}</h2><div class="scroll">'
        f"{draw(model, rules, limit=_OPERATORS, title=name)}</div></section>"
        for name, model, rules in (
            ("before", pictures.before, gone),
            ("after", pictures.after, made),
        )
    )
    return (
        f'<h2>The graph</h2><div>{legend({**gone, **made})}</div><div class="pair">{columns}</div>'
    )


# --- pieces -------------------------------------------------------------------------------------


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _scaled(value: float | None, factor: float) -> str:
    return "-" if value is None else f"{value * factor:,.3f}"


def _arrow(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "-"
    return f"{before:,.2f} &rarr; {after:,.2f}"


def _size(count: int) -> str:
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.3g} {unit}"
    return f"{count} bytes"


def _husk(model: ir.Model) -> ir.Model:
    """A copy whose weights take no memory: zeros that are one number."""
    made = clone(model)
    for graph in made.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.dtype != ir.DataType.STRING:
                zero = np.zeros((), tensor.dtype.numpy())
                value.const_value = ir.Tensor(
                    np.broadcast_to(zero, tensor.shape.numpy()), dtype=tensor.dtype, name=value.name
                )
    return made
