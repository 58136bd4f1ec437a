"""Commands that compare: `verify` two models, `agree` of four engines on one."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from addax.cli._options import AsJson, Data, ModelPath, app, read_feeds

DIFFERENT, UNDECIDED = 3, 4


@app.command()
def verify(
    original: ModelPath,
    optimized: Annotated[Path, typer.Argument(help="The other ONNX file.", show_default=False)],
    data: Data = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="What `addax optimize --certificate` wrote; it is replayed."),
    ] = None,
    bitwise: Annotated[bool, typer.Option(help="Ask for equal bits on the inputs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether OPTIMIZED computes the function of ORIGINAL.

    Exit code 0: proved, or equal within rounding. 3: different, or the certificate does not hold.
    4: undecided, or a step of the certificate could be neither proved nor measured.
    """
    from addax.frontend import to_ir
    from addax.ir.equivalence import compare
    from addax.ir.rule import Exact

    a, b = to_ir(original), to_ir(optimized)
    feeds = read_feeds(data)
    exact = Exact.BITWISE if bitwise else Exact.REASSOCIATED
    found = compare(a, b, feeds=None if feeds is None else [feeds], exact=exact)
    record: dict[str, Any] = {
        "verdict": found.verdict,
        "detail": found.detail,
        "worst_share_of_the_bound": found.worst,
        "sets_of_inputs": found.feeds,
        "proof": found.proof.verdict,
        "error_probability": found.proof.error_probability,
    }
    lines = [str(found)]
    if found.proof.verdict == "proved":
        lines.append(
            f"the proof is wrong with a probability of at most {found.proof.error_probability:.2g}"
        )
    code = 0 if found.holds else DIFFERENT if found.verdict == "different" else UNDECIDED
    if certificate is not None:
        replayed = _replayed(a, b, certificate)
        record["certificate"] = dataclasses.asdict(replayed)
        lines.append(f"certificate: {replayed}")
        if not replayed.is_complete:
            code = UNDECIDED if replayed.holds and code != DIFFERENT else DIFFERENT
    print(json.dumps(_finite(record)) if as_json else "\n".join(lines))
    raise typer.Exit(code)


def _replayed(a: Any, b: Any, path: Path) -> Any:
    from addax.ir.certificate import Certificate, replay

    return replay(a, b, Certificate.load(path))


def _finite(record: Any) -> Any:
    """JSON has no infinity: it becomes a null."""
    if isinstance(record, dict):
        return {key: _finite(value) for key, value in record.items()}
    if isinstance(record, float) and abs(record) == float("inf"):
        return None
    return record


@app.command()
def agree(
    model: ModelPath,
    data: Data = None,
    against: Annotated[
        list[str] | None, typer.Option(help="An engine to run; repeatable; all by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run MODEL in the judge, ONNX Runtime, torch and TVM; name the node where two of them part.

    Exit code 0: those that ran agree. 3: two of them part. 4: fewer than two ran.
    """
    from addax.frontend import to_ir
    from addax.ir.equivalence import draw_feeds
    from addax.runtime.agreement import ENGINES, agreement

    graph = to_ir(model)
    feeds = read_feeds(data)
    feeds = draw_feeds(graph) if feeds is None else feeds
    found = agreement(graph, feeds, against=tuple(against or ENGINES))
    print(json.dumps(_finite(dataclasses.asdict(found)), default=str) if as_json else found)
    raise typer.Exit(0 if found.holds else DIFFERENT if found.parts else UNDECIDED)
