"""The command `show`: a model as text or as a picture, before and after."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from addax.cli._options import AsJson, ModelPath, PipelineText, app


@app.command()
def show(
    model: ModelPath,
    html: Annotated[
        Path | None,
        typer.Option(help="Draw MODEL before and after the rewrites, coloured by them, as a page."),
    ] = None,
    pipeline: PipelineText = None,
    limit: Annotated[
        int, typer.Option(min=1, help="With --html: operators drawn one by one; else by blocks.")
    ] = 300,
    as_json: AsJson = False,
) -> None:
    """Print MODEL as canonical text, or draw it as a page of HTML."""
    from addax.frontend import to_ir
    from addax.ir.text import to_text

    graph = to_ir(model)
    if html is None:
        text = to_text(graph)
        print(json.dumps({"text": text}) if as_json else text)
        return
    from addax.drawing import Lineage, draw_pair, rules_of
    from addax.ir._staging import staged
    from addax.ir.model import clone
    from addax.passes._pipeline import Pipeline, run_pipeline

    before, lineage = clone(graph), Lineage()
    plan = None if pipeline is None else Pipeline.parse(pipeline)
    run_pipeline(graph, plan, instruments=[lineage])
    page = draw_pair(before, graph, lineage.gone, title=model.name, limit=limit)
    with staged(os.fspath(html)) as (file,):
        file.write(page.encode())
    record = {
        "file": str(html),
        "nodes_before": len(before.graph),
        "nodes_after": len(graph.graph),
        "gone": lineage.gone,
        "made": rules_of(graph),
    }
    print(json.dumps(record) if as_json else f"wrote {html}")
