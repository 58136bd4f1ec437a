"""The command `measure`: how fast this machine computes layers, for plans and predictions."""

import json
import sys
from typing import Annotated

import typer

from addax.cli._options import AsJson, app


@app.command()
def measure(
    quick: Annotated[bool, typer.Option("--quick", help="Small layers only, in seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Time layers of every form on this machine, once, for the latencies that plans go by.

    Takes a minute or two. The table is kept in the cache folder, for this processor, these kernels
    and this ONNX Runtime; `addax optimize` and `addax.Budget` use it from then on.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from addax.errors import BuildError
    from addax.runtime.cost_table import this_set
    from addax.runtime.kernels import Kernels, host_kernels
    from addax.runtime.measured_costs import SIDES, MeasuredCosts
    from addax.runtime.measured_costs import measure as run

    kernels: Kernels | None
    try:
        kernels = host_kernels()
    except BuildError as error:
        kernels = None
        print(f"no kernels, so that only ONNX Runtime's own are timed: {error}", file=sys.stderr)
    columns = TextColumn("{task.description:24}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=1.0)

        def tell(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)

        sides = SIDES[:4] if quick else SIDES
        made: MeasuredCosts = run(kernels, this_set(), sides=sides, tell=tell)
    path = made.save()
    if as_json:
        print(json.dumps(made.record() | {"path": str(path)}))
        return
    Console().print(made)
    print(f"wrote {path}")
