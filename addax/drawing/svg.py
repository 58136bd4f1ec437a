"""One graph as SVG."""

from collections.abc import Mapping
from html import escape

import onnx_ir as ir

from addax.drawing.boxes import Box, boxes
from addax.drawing.layers import Point, place
from addax.drawing.lineage import rules_of
from addax.passes._family import families

_LETTER, _PAD, _HEIGHT, _STEP = 6.2, 16.0, 22.0, 46.0  # pixels; a letter of the font below
_TURN = 137.5  # degrees of hue from one family to the next: far apart, however many there are
_LIGHT = (84, 74, 64)  # percent; hues come near again after thirteen families
_FONT = "font-family:ui-monospace,Menlo,'DejaVu Sans Mono',monospace;font-size:10.3px"
_PLAIN = {"op": "#eef0f2", "block": "#e3e6ea", "input": "#ffffff", "output": "#ffffff"}


def draw(
    model: ir.Model, rules: Mapping[str, str] | None = None, *, limit: int = 300, title: str = ""
) -> str:
    """The main graph as an `<svg>` element; it needs no other file and runs no script.

    Args:
        model: Well formed; stays as it is.
        rules: The rewrite to colour an operator by, by `key_of` the node; None for those that the
            nodes' own history tells (`rules_of`).
        limit: Operators to draw one by one; beyond, blocks are drawn.
        title: Shown by readers that show titles, and read aloud.
    """
    rules = rules_of(model) if rules is None else rules
    graph = boxes(model, rules, limit)
    shown: dict[object, Box] = {key: data["box"] for key, data in graph.nodes(data=True)}
    widths = {key: _LETTER * len(box.label) + _PAD for key, box in shown.items()}
    layout = place(graph, widths, _STEP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{layout.width:.0f}" '
        f'height="{layout.height:.0f}" viewBox="0 0 {layout.width:.0f} {layout.height:.0f}" '
        f'role="img" style="{_FONT}">',
        f"<title>{escape(title or model.graph.name or 'graph')}</title>",
        *(_arrow(points) for points in layout.arrows),
        *(_rectangle(box, layout.centres[key], widths[key]) for key, box in shown.items()),
        "</svg>",
    ]
    return "\n".join(parts)


def legend(rules: Mapping[str, str]) -> str:
    """A line of HTML that says which colour stands for which family of rewrites."""
    families = sorted({_family(rule) for rule in rules.values()})
    swatch = "display:inline-block;width:1em;height:1em;border:1px solid #667;vertical-align:-0.1em"
    return " &nbsp; ".join(
        f'<span><span style="{swatch};background:{colour(name)}"></span> {escape(name)}</span>'
        for name in families
    )


def colour(rule: str) -> str:
    """The colour of a rule's family, always the same; grey for what is no family of addax."""
    known = sorted(families())
    family = _family(rule)
    if family not in known:
        return "hsl(0 0% 82%)"
    place = known.index(family)
    return f"hsl({_TURN * place % 360:.0f} 70% {_LIGHT[place % len(_LIGHT)]}%)"


def _family(rule: str) -> str:
    return rule.partition("/")[0]


def _rectangle(box: Box, centre: Point, width: float) -> str:
    x, y = centre[0] - width / 2, centre[1] - _HEIGHT / 2
    fill = colour(box.rule) if box.rule else _PLAIN[box.kind]
    round_by = _HEIGHT / 2 if box.kind in {"input", "output"} else 3
    edge = "2" if box.kind == "block" else "1"
    told = f"{box.detail}\n{box.rule}".strip()
    return (
        f"<g><title>{escape(told)}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_HEIGHT:.0f}" '
        f'rx="{round_by:.0f}" fill="{fill}" stroke="#667" stroke-width="{edge}"/>'
        f'<text x="{centre[0]:.1f}" y="{centre[1] + 3.6:.1f}" text-anchor="middle" '
        f'fill="#111">{escape(box.label)}</text></g>'
    )


def _arrow(points: tuple[Point, ...]) -> str:
    """A smooth line through the points, from the bottom of one box to the top of another."""
    (x, y), *inner, (last_x, last_y) = points
    y += _HEIGHT / 2
    path = [f"M{x:.1f},{y:.1f}"]
    for to_x, to_y in (*inner, (last_x, last_y - _HEIGHT / 2)):
        middle = (y + to_y) / 2
        path.append(f"C{x:.1f},{middle:.1f} {to_x:.1f},{middle:.1f} {to_x:.1f},{to_y:.1f}")
        x, y = to_x, to_y
    return f'<path d="{" ".join(path)}" fill="none" stroke="#99a" stroke-width="1"/>'
