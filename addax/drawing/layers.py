"""Where boxes go: layers from top to bottom, few crossings, boxes below what they read.

The layered method of Sugiyama, Tagawa and Toda (1981): layers by the longest path, dummies where
an arrow passes a layer, order by the mean of the neighbours' places, then coordinates by least
squares under the widths (isotonic regression).
"""

import itertools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import networkx as nx
import numpy as np
from scipy.optimize import isotonic_regression

_GAP = 14.0  # pixels between two boxes of a layer
_SWEEPS = 8

Key = Hashable
Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """The centre of each box, the corners of each arrow, and the size of all, in pixels."""

    centres: Mapping[Key, Point]
    arrows: tuple[tuple[Point, ...], ...]
    width: float
    height: float


def place(graph: nx.DiGraph, widths: Mapping[Key, float], step: float) -> Layout:
    """Coordinates for a graph without cycles.

    Args:
        graph: What is drawn.
        widths: Of each box, in pixels.
        step: Pixels from one layer to the next.
    """
    layers, dummies, paths = _layered(graph)
    joined = nx.Graph()
    joined.add_nodes_from(key for layer in layers for key in layer)
    joined.add_edges_from(pair for path in paths for pair in itertools.pairwise(path))
    _order(layers, joined)
    sizes = {key: widths.get(key, 4.0) for layer in layers for key in layer}
    x = _spread(layers, joined, sizes)
    left = min((x[key] - sizes[key] / 2 for key in sizes), default=0.0) - _GAP
    right = max((x[key] + sizes[key] / 2 for key in sizes), default=0.0) + _GAP
    at = {
        key: (x[key] - left, step * (row + 0.5))
        for row, layer in enumerate(layers)
        for key in layer
    }
    arrows = tuple(tuple(at[key] for key in path) for path in paths)
    centres = {key: point for key, point in at.items() if key not in dummies}
    return Layout(centres, arrows, right - left, step * len(layers))


def _layered(graph: nx.DiGraph) -> tuple[list[list[Key]], set[Key], list[list[Key]]]:
    """Layers; dummies in them; for each arrow all it passes, its ends included."""
    row: dict[Key, int] = {}
    for depth, layer in enumerate(nx.topological_generations(graph)):
        row.update(dict.fromkeys(layer, depth))
    for key in reversed(list(nx.topological_sort(graph))):  # sources go down to their readers
        below = [row[reader] for reader in graph.successors(key)]
        if below and graph.in_degree(key) == 0:
            row[key] = min(below) - 1
    layers: list[list[Key]] = [[] for _ in range(max(row.values(), default=-1) + 1)]
    for key in graph:
        layers[row[key]].append(key)
    dummies: set[Key] = set()
    paths = []
    for source, reader in graph.edges:
        passed = [("dummy", source, reader, depth) for depth in range(row[source] + 1, row[reader])]
        for key in passed:
            layers[key[3]].append(key)
        dummies.update(passed)
        paths.append([source, *passed, reader])
    return layers, dummies, paths


def _order(layers: list[list[Key]], joined: nx.Graph) -> None:
    """Sort each layer by where the neighbours in the layer before stand, down and up again."""
    for sweep in range(_SWEEPS):
        rows = layers if sweep % 2 == 0 else layers[::-1]
        for fixed, loose in itertools.pairwise(rows):
            at = {key: place for place, key in enumerate(fixed)}
            now = {key: place for place, key in enumerate(loose)}
            wish = {
                key: (_mean([at[n] for n in joined[key] if n in at], now[key]), now[key])
                for key in loose
            }
            loose.sort(key=wish.__getitem__)


def _spread(
    layers: list[list[Key]], joined: nx.Graph, sizes: Mapping[Key, float]
) -> dict[Key, float]:
    """Horizontal centres: near the neighbours', in order, apart by the widths."""
    x: dict[Key, float] = {}
    offsets = []
    for layer in layers:
        halves = np.array([sizes[key] / 2 for key in layer])
        gaps = np.zeros(len(layer))
        gaps[1:] = halves[1:] + halves[:-1] + _GAP
        offsets.append(np.cumsum(gaps))
        x.update(zip(layer, offsets[-1] - offsets[-1][-1] / 2, strict=True))
    for sweep in range(_SWEEPS):
        rows = range(len(layers)) if sweep % 2 == 0 else range(len(layers) - 1, -1, -1)
        for row in rows:
            wish = [_mean([x[n] for n in joined[key]], x[key]) for key in layers[row]]
            found = isotonic_regression(np.array(wish) - offsets[row]).x + offsets[row]
            x.update(zip(layers[row], map(float, found), strict=True))
    return x


def _mean(values: list[float] | list[int], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
