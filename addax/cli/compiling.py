"""Commands that compile: `optimize`, `passes`, `explain`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from addax.cli._options import AsJson, ModelPath, app, read_batches


@app.command()
def optimize(
    model: ModelPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the result.")],
    target: Annotated[
        str, typer.Option(help="Where it shall run; `addax targets` lists them.")
    ] = "host",
    allow: Annotated[
        list[str] | None, typer.Option(help="An approximate family that may be used; repeatable.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Real inputs for these: an .npz file, an array of samples for each."),
    ] = None,
    bits: Annotated[
        str | None,
        typer.Option(help="With shift-add: 2, 3, 4, a mean, auto, or a format such as fitted4."),
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option(help="With --bits auto: what all weights may take.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Choose layer by layer: max_error=0.02,objective=bytes; see the docs."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the report here, as a page of HTML.")
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option(help="Exactly what runs, such as cleanup,fold-affine.")
    ] = None,
    fuel: Annotated[int | None, typer.Option(help="Stop after this many rewrites.")] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Prove each rewrite, and write here what `addax verify` can replay."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time each layer that became codes, on this machine.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rewrite MODEL to a fixed point and write it to OUTPUT."""
    from rich.console import Console

    from addax.api import optimize as run

    made = run(
        model,
        target=target,
        allow=tuple(allow or ()),
        calibration=read_batches(calibration),
        bits=_number(bits),
        max_bytes=max_bytes,
        budget=None if budget is None else _budget(budget),
        pipeline=pipeline,
        fuel=fuel,
        measure=measure,
        verify=certificate is not None,
    )
    made.save(output)
    if report is not None:
        made.report.save_html(report)
    if certificate is not None and made.certificate is not None:
        made.certificate.save(certificate)
    if as_json:
        print(made.report.to_json())
    else:
        Console().print(made.report)
        print(f"wrote {output}")


def _budget(text: str) -> Any:
    from addax.planner import Budget

    return Budget.parse(text)


def _number(text: str | None) -> float | str | None:
    """A number where the text is one."""
    try:
        number = float(text or "")
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


@app.command()
def passes(
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a page for documentation.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List every family of rewrites and its rules."""
    from rich.console import Console
    from rich.table import Table

    from addax.passes._family import families

    found = families().values()
    if as_json:
        print(json.dumps([_described(family) for family in found]))
        return
    if as_markdown:
        from addax.explain import describe_passes

        print(describe_passes(found))
        return
    table = Table(show_edge=False)
    for heading in ("phase", "rule", "exactness", "what it does"):
        table.add_column(heading, no_wrap=heading != "what it does")
    for family in found:
        table.add_row(family.phase.name.lower(), family.name, "", family.summary, style="bold")
        for rule in family.rules:
            table.add_row("", f"  {rule.name}", rule.exact.value, rule.summary)
    Console().print(table)


def _described(family: Any) -> dict[str, Any]:
    return {
        "family": family.name,
        "phase": family.phase.name.lower(),
        "summary": family.summary,
        "exact": family.is_exact,
        "rules": [
            {"name": r.name, "exactness": r.exact.value, "summary": r.summary, "where": r.where}
            for r in family.rules
        ],
    }


@app.command()
def explain(
    model: ModelPath,
    rule: Annotated[str, typer.Option(help="The rule, as `addax passes` lists it.")],
    node: Annotated[
        str | None, typer.Option(help="A node's name; all nodes that come near, if absent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say where RULE applied in MODEL, and where and why it did not."""
    from addax.explain import explain as run

    found = run(model, rule, node)
    if as_json:
        print(json.dumps([entry.__dict__ for entry in found]))
        return
    for entry in found:
        print(f"{entry.verdict:9} {entry.node}: {entry.reason}")
    if not found:
        print(f"no node of the model comes near the pattern of {rule}")
