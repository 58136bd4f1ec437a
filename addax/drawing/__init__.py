"""Graphs as pictures: layers from top to bottom, coloured by the rewrites that made them.

    svg = draw(model)                       # one graph
    html = draw_pair(before, after, gone)   # two side by side, as a page of its own

Nothing here changes a model. What a picture shows: the main graph's operators; the graphs inside
an If or a Loop are counted in its box. Larger graphs are drawn by blocks: a module of the user's,
or a chain of operators.
"""

from addax.drawing.lineage import Lineage, key_of, rules_of
from addax.drawing.page import draw_pair
from addax.drawing.svg import draw, legend

__all__ = ["Lineage", "draw", "draw_pair", "key_of", "legend", "rules_of"]
