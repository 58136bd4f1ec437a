"""The command `bench`: two models on the same inputs, in turns: how fast, and how far apart."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from addax.cli._options import AsJson, Data, ModelPath, app, read_feeds
from addax.errors import InputError, OptionError

if TYPE_CHECKING:
    import numpy as np


@app.command()
def bench(
    original: ModelPath,
    optimized: Annotated[Path, typer.Argument(help="The other ONNX file.", show_default=False)],
    data: Data = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Without --data: size of a named dimension, batch=8; repeatable."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each that are counted.")] = 30,
    threads: Annotated[int, typer.Option(min=1, help="Threads for one operator.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Time ORIGINAL and OPTIMIZED in turns on the same inputs, and compare what they compute.

    Each runs in ONNX Runtime, with the library of kernels that is beside it, if one is. The ratio
    is that of neighbouring runs: its median, and in brackets its quartiles.
    """
    from addax.frontend import to_ir
    from addax.ir.equivalence import draw_feeds
    from addax.runtime.load import load
    from addax.runtime.turns import time_in_turns

    feeds = read_feeds(data)
    if feeds is None:
        feeds = draw_feeds(to_ir(original), sizes=_sizes(size or []))
    sessions: list[Any] = [load(path, threads=threads) for path in (original, optimized)]
    names = [port.name for port in sessions[1].inputs]
    if sorted(feeds) != sorted(names):
        raise InputError(
            f"expected two models with the same inputs, to run them on the same data; "
            f"{original.name} gets {sorted(feeds)}, {optimized.name} takes {sorted(names)}"
        )
    record = _distances(*(session.run(feeds) for session in sessions))
    turns = time_in_turns(lambda: sessions[0].run(feeds), lambda: sessions[1].run(feeds), rounds)
    first, second = turns.medians
    low, middle, high = turns.speedups
    sizes = {name: list(array.shape) for name, array in feeds.items()}
    if as_json:
        figures = {
            "milliseconds": [first * 1e3, second * 1e3],
            "speedup": {"lower_quartile": low, "median": middle, "upper_quartile": high},
            "rounds": rounds,
            "threads": threads,
            "inputs": sizes,
            "outputs": record,
        }
        print(json.dumps(figures))
        return
    print(f"inputs: {', '.join(f'{name}{shape}' for name, shape in sizes.items())}")
    print(f"{original.name}: {first * 1e3:.3f} ms, {optimized.name}: {second * 1e3:.3f} ms")
    print(f"{middle:.2f} times as fast ({low:.2f} to {high:.2f}), {threads} thread(s)")
    for name, found in record.items():
        told = f"relative error {found['relative_error']:.3g}"
        if found["same_largest"] is not None:
            told += f", largest of the last axis at the same place in {found['same_largest']:.1%}"
        print(f"{name}: {told}")


def _sizes(texts: list[str]) -> dict[str, int]:
    """Sizes of named dimensions.

    Raises:
        OptionError: If one is not written as name=number.
    """
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not name or not number.isdecimal() or int(number) < 1:
            raise OptionError(f"--size {text}: expected the name of a dimension and its size, b=8")
        found[name] = int(number)
    return found


def _distances(
    a: "dict[str, np.ndarray]", b: "dict[str, np.ndarray]"
) -> dict[str, dict[str, float | None]]:
    """How far the outputs are apart, by the names of the first.

    Raises:
        InputError: If they are others in number or shape.
    """
    import numpy as np

    shapes = [[np.shape(value) for value in outputs.values()] for outputs in (a, b)]
    if shapes[0] != shapes[1]:
        raise InputError(f"expected outputs of the same shapes, got {shapes[0]} and {shapes[1]}")
    found: dict[str, dict[str, float | None]] = {}
    for name, x, y in zip(a, a.values(), b.values(), strict=True):
        size = float(np.linalg.norm(x.astype(np.float64)))
        apart = float(np.linalg.norm(y.astype(np.float64) - x.astype(np.float64)))
        same = None
        if x.ndim > 1 and x.shape[-1] > 1:
            same = float((x.argmax(-1) == y.argmax(-1)).mean())
        found[name] = {"relative_error": apart / size if size else apart, "same_largest": same}
    return found
