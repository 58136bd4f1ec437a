"""How a bench is called and how it prints: arguments, tables, and the last line of JSON."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.measure._machine import machine
from bench.measure._timing import Timings


def arguments(name: str, description: str = "") -> argparse.ArgumentParser:
    """A parser with what every bench accepts: `--quick` and `--seed`; add to it what one needs."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=description)
    parser.add_argument("--quick", action="store_true", help="less of everything: under a minute")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    return parser


def _console() -> Console:
    """A console that is as wide as the terminal, and 100 columns in a pipe."""
    width = None if os.isatty(1) else 100
    return Console(width=width)


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows as a table; its columns are the keys of all rows, in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    page = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        page.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        page.add_row(*(_cell(row.get(column)) for column in columns))
    _console().print(page)


def timing_table(title: str, timings: Timings, baseline: str) -> None:
    """Print a row for each contender: milliseconds a call, and its ratio over the baseline."""
    clock = timings.clock()
    rows: list[dict[str, object]] = []
    for name in timings.names:
        spread = timings.seconds(name, clock)
        row: dict[str, object] = {"contender": name, "ms": spread.p50 * 1e3}
        row[f"over {baseline}"] = None if name == baseline else timings.ratio(name, baseline, clock)
        row["threads"] = "many" if timings.threaded(name) else "1"
        rows.append(row)
    table(f"{title} ({clock} time, median [p10, p90])", rows)


def _plain(value: object) -> object:
    """What json cannot write by itself: NumPy scalars and arrays, dataclasses."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"expected a figure, got {type(value).__name__}: {value!r}")


def emit_json(name: str, figures: Mapping[str, Any], *, seed: int = 0) -> None:
    """Print the last line of a bench: its name, its figures, the seed and the machine, as JSON.

    Raises:
        TypeError: a figure is neither a number, a text, nor a container of them.
        ValueError: a figure is not finite: such a figure is a fault of the bench.
    """
    line = {"bench": name, "seed": seed, "figures": dict(figures), "machine": machine()}
    print(json.dumps(line, default=_plain, allow_nan=False), flush=True)
