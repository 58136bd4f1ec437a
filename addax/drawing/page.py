"""Two graphs side by side as one page of HTML."""

from collections.abc import Mapping
from html import escape

import onnx_ir as ir

from addax.drawing.lineage import key_of, rules_of
from addax.drawing.svg import draw, legend

_STYLE = """
body { margin: 0; font: 14px/1.5 system-ui, sans-serif; color: #112; background: #fff }
header { padding: 12px 20px; border-bottom: 1px solid #dde; position: sticky; top: 0;
  background: #fff }
h1 { font-size: 18px; margin: 0 } h2 { font-size: 15px; margin: 8px 0 }
main { display: flex; gap: 24px; padding: 8px 20px; align-items: flex-start }
section { overflow-x: auto; flex: 1 1 0; min-width: 0 }
"""


def draw_pair(
    before: ir.Model,
    after: ir.Model,
    gone: Mapping[str, str] | None = None,
    *,
    title: str = "addax",
    limit: int = 300,
) -> str:
    """A page with both graphs: what rewrites took away on the left, what they made on the right.

    Args:
        before: The model as it came; stays as it is.
        after: The model that was made of it; the history in its nodes says by what.
        gone: The rule that took an operator of `before` away, by its key (`Lineage.gone`); None
            colours the operators that `after` has no more in one colour.
        title: Of the page.
        limit: Operators to draw one by one; beyond, blocks are drawn.
    """
    if gone is None:
        kept = {(key_of(node), node.op_type) for node in after.graph}
        lost = [node for node in before.graph if (key_of(node), node.op_type) not in kept]
        gone = dict.fromkeys(map(key_of, lost), "gone")
    made = rules_of(after)
    columns = "".join(
        f"<section><h2>{heading}: {len(model.graph)} operators</h2>{drawing}</section>"
        for heading, model, drawing in (
            ("before", before, draw(before, gone, limit=limit, title="before")),
            ("after", after, draw(after, made, limit=limit, title="after")),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>{escape(title)}</h1><div>{legend({**gone, **made})}</div></header>"
        f"<main>{columns}</main></body></html>\n"
    )
