"""Commands that find faults: `bisect` the rewrites, `reduce` the model."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addax.cli._options import AsJson, Check, Data, ModelPath, PipelineText, app, read_feeds

if TYPE_CHECKING:
    import onnx_ir as ir

    from addax.debugging import Fault

FOUND = 3


@app.command()
def bisect(
    model: ModelPath,
    data: Data = None,
    pipeline: PipelineText = None,
    check: Check = None,
    cases: Annotated[Path, typer.Option(help="The folder for the case file.")] = Path("cases"),
    as_json: AsJson = False,
) -> None:
    """Find the first rewrite after which MODEL is no longer what it was.

    Prints the rule, the node and what it did, and writes a case for tests/passes/cases. Exit code
    0: no rewrite is at fault. 3: one is.
    """
    from addax.debugging import bisect as run
    from addax.debugging.faults import ask
    from addax.frontend import to_ir
    from addax.passes._pipeline import Pipeline

    graph = to_ir(model)
    fault = _fault(graph, data, pipeline, check)
    if ask(fault, graph) is None:
        print("null" if as_json else "no fault: the rewritten model is as good as the original")
        return
    found = run(graph, fault, None if pipeline is None else Pipeline.parse(pipeline))
    path = found.save_case(cases)
    print(json.dumps(dataclasses.asdict(found) | {"file": str(path)}) if as_json else found)
    if not as_json:
        print(f"wrote {path}")
    raise typer.Exit(FOUND)


@app.command()
def reduce(
    model: ModelPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the result.")],
    data: Data = None,
    pipeline: PipelineText = None,
    check: Check = None,
    seconds: Annotated[float, typer.Option(help="Stop shrinking after so long.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Shrink MODEL while its fault stays, usually to three nodes or fewer.

    The fault: optimizing it crashes, or changes what it computes; or the command of --check fails
    on the optimized model. Writes the model, and its inputs beside it as .npz. Exit code 1: there
    is no fault.
    """
    from addax.debugging import reduce as run
    from addax.frontend import to_ir
    from addax.ir.text import to_text

    graph = to_ir(model)
    fault = _fault(graph, data, pipeline, check)
    found = run(graph, fault, seconds=seconds, progress=_tell)
    inputs, text = found.save(output), to_text(found.model, names="kept")
    if as_json:
        record = {
            "fault": found.fault,
            "nodes_before": found.nodes[0],
            "nodes_after": found.nodes[1],
            "tried": found.tried,
            "out_of_time": found.out_of_time,
            "text": text,
            "file": str(output),
            "data": str(inputs),
        }
        print(json.dumps(record))
    else:
        print(f"{text}\n{found}\nwrote {output} and {inputs}")


def _fault(
    model: "ir.Model", data: Path | None, pipeline: str | None, check: str | None
) -> "Fault":
    from addax.debugging.faults import Fails, optimizing
    from addax.passes._pipeline import Pipeline

    plan = None if pipeline is None else Pipeline.parse(pipeline)
    if check is not None:
        return Fails(check, plan)
    feeds = read_feeds(data)
    return optimizing(model, plan, None if feeds is None else [feeds])


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr)
