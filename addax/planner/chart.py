"""A frontier as a picture: inline SVG for pages, PNG or SVG files with matplotlib."""

import math
import os
from collections.abc import Callable, Sequence
from html import escape

from addax.errors import MissingPackageError
from addax.planner.record import Frontier, PlanRecord, Point

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 460, 280, 62, 26, 16, 44
_COLOURS = ("#1f6f8b", "#b5542c")
_TICKS = 5

Axis = Callable[[Point], float]


def charts(record: PlanRecord) -> str:
    """Two charts as SVG: the error against what is made least, and against bytes."""
    frontier, made = record.frontier, record.measured
    by_time = frontier.objective == "latency"
    value: Axis = _milliseconds if by_time else _microjoules
    here = (made.seconds or 0.0) * 1e3 if by_time else (made.joules or 0.0) * 1e6
    unit = "ms, one thread" if by_time else "uJ (45 nm model)"
    return _chart(frontier.fastest, value, unit, (made.error, here)) + _chart(
        frontier.smallest, lambda p: p.bytes / 1e6, "MB of weights", (made.error, made.bytes / 1e6)
    )


def save_chart(frontier: Frontier, path: str | os.PathLike[str]) -> None:
    """Write the frontier as a picture, in the format that the path ends in.

    Args:
        frontier: Of a plan: `fast.report.plan.frontier`.
        path: Where: "frontier.png", "frontier.svg", "frontier.pdf".

    Raises:
        MissingPackageError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("pictures need matplotlib: pip install addax[plots]") from error
    by_time = frontier.objective == "latency"
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    kinds: tuple[tuple[object, Sequence[Point], Axis, str], ...] = (
        (left, frontier.fastest, _milliseconds if by_time else _microjoules,
         "ms, one thread" if by_time else "uJ (45 nm model)"),
        (right, frontier.smallest, lambda p: p.bytes / 1e6, "MB of weights"),
    )  # fmt: skip
    for axes, points, value, name in kinds:
        known = [p for p in points if p.error > 0]
        axes.plot([p.error for p in known], [value(p) for p in known], "o-")  # type: ignore[attr-defined]
        axes.set_xscale("log")  # type: ignore[attr-defined]
        axes.set_xlabel("relative error of the outputs")  # type: ignore[attr-defined]
        axes.set_ylabel(name)  # type: ignore[attr-defined]
        axes.grid(visible=True, alpha=0.3)  # type: ignore[attr-defined]
    figure.savefig(os.fspath(path), dpi=150)


def _milliseconds(point: Point) -> float:
    return (point.seconds or 0.0) * 1e3


def _microjoules(point: Point) -> float:
    return point.joules * 1e6


def _chart(points: Sequence[Point], value: Axis, name: str, made: tuple[float, float]) -> str:
    known = [point for point in points if point.error > 0]
    if not known:
        return ""
    seen = [(p.error, value(p), _told(p, value(p), name)) for p in known]
    errors = [e for e, _, _ in seen] + ([made[0]] if made[0] > 0 else [])
    highest = max([v for _, v, _ in seen] + [made[1]]) * 1.08 or 1.0
    low, high = math.log10(min(errors)), math.log10(max(errors))
    high = high if high > low else low + 1

    def place(error: float, amount: float) -> tuple[float, float]:
        share = (math.log10(error) - low) / (high - low)
        x = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        return x, _HEIGHT - _BOTTOM - amount / highest * (_HEIGHT - _TOP - _BOTTOM)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(e, v) for e, v, _ in seen))
    dots = "".join(_dot(*place(e, v), told, _COLOURS[0], 3.5) for e, v, told in seen)
    if made[0] > 0:
        told = f"this plan, measured: error {made[0]:.4g}, {made[1]:.4g} {name}"
        dots += _dot(*place(*made), told, _COLOURS[1], 6)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" class="chart">'
        f"<title>error against {escape(name)}</title>"
        f'<text x="{_LEFT}" y="16" class="axis">{escape(name)}</text>'
        + _axes(low, high, highest, place)
        + f'<polyline points="{line}" fill="none" stroke="{_COLOURS[0]}" stroke-width="1.5"/>'
        + dots
        + "</svg>"
    )


def _axes(
    low: float, high: float, highest: float, place: Callable[[float, float], tuple[float, float]]
) -> str:
    parts = []
    for step in range(_TICKS):
        amount = highest * step / (_TICKS - 1) / 1.08
        y = place(10**low, amount)[1]
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" class="axis">'
            f"{amount:.3g}</text>"
        )
        error = 10 ** (low + (high - low) * step / (_TICKS - 1))
        x = place(error, 0)[0]
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle" class="axis">'
            f"{error:.2g}</text>"
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{_HEIGHT - 8}" text-anchor="middle" class="axis">'
        "relative error of the outputs</text>"
    )
    return "".join(parts)


def _dot(x: float, y: float, told: str, colour: str, size: float) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}"><title>{escape(told)}'
        "</title></circle>"
    )


def _told(point: Point, amount: float, name: str) -> str:
    counts = ", ".join(f"{count} {label}" for label, count in sorted(point.counts.items()))
    return f"error {point.error:.4g}, {amount:.4g} {name}: {counts}"
