"""The command `targets`: where models can run, what this machine has, which kernels there are."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from addax.cli._options import AsJson, app

if TYPE_CHECKING:
    from addax.backends.ort.table import Row
    from addax.backends.target import Target
    from addax.runtime.machine import Machine


@app.command()
def targets(as_json: AsJson = False) -> None:
    """List where models can run, what this machine has for it, and the kernels of each op."""
    from addax.backends.ort.table import table
    from addax.backends.targets import TARGETS as MACHINES
    from addax.backends.targets import host
    from addax.delivery import TARGETS, delivery_to
    from addax.runtime.machine import Machine

    known = {"host": host(), **MACHINES}
    machines = {name: known[name] for name in TARGETS if name in known and known[name].sets}
    machine = Machine.here()
    sets = {isa.name: isa for target in machines.values() for isa in target.sets}
    where = {
        name: (
            delivery_to(name).where,
            [isa.name for isa in machines[name].sets] if name in machines else [],
        )
        for name in TARGETS
    }
    rows = table(machines.values())
    if as_json:
        record = {
            "machine": vars(machine) | {"library": machine.library and str(machine.library)},
            "targets": [
                {"name": name, "where": text, "instruction_sets": names}
                for name, (text, names) in where.items()
            ],
            "instruction_sets": {name: list(isa.requires) for name, isa in sets.items()},
            "ops": [vars(row) for row in rows],
        }
        print(json.dumps(record))
        return
    from rich.console import Console

    console = Console()
    for name, value in _facts(machine):
        console.print(f"{name + ':':18}{value}", highlight=False, markup=False, soft_wrap=True)
    for shown in (
        _target_table(where),
        _set_table(machines, machine),
        _kernel_table([row for row in rows if row.form]),
    ):
        console.print()
        console.print(shown)
    bodies = ", ".join(row.op for row in rows if not row.form)
    console.print(f"\nthrough their bodies in standard operators: {bodies}", highlight=False)


def _facts(machine: "Machine") -> list[tuple[str, str]]:
    lines = [
        ("this machine", machine.system),
        ("instruction sets", ", ".join(machine.sets) or "not known"),
        ("C compiler", machine.compiler or "none"),
        ("TVM", machine.tvm or "not installed"),
        ("ONNX Runtime", machine.onnxruntime),
        ("kernels", str(machine.library or "not built yet; the first use builds them")),
        ("missing", machine.missing.partition("\n")[0]),
    ]
    return [(name, value) for name, value in lines if value]


def _target_table(where: Mapping[str, tuple[str, list[str]]]) -> Any:
    shown = _headed("target", "where", "instruction sets")
    for name, (text, names) in where.items():
        shown.add_row(name, text, ", ".join(names))
    return shown


def _set_table(machines: Mapping[str, "Target"], here: "Machine") -> Any:
    shown = _headed("instruction set", "needs", "this machine")
    needs = {
        isa.name: f"{target.triple.partition('-')[0]}: {' '.join(isa.requires) or 'any'}"
        for target in machines.values()
        for isa in target.sets
    }
    for name, text in needs.items():
        answer = "used" if name == here.used else "yes" if name in here.sets else "no"
        shown.add_row(name, text, answer if here.sets else "?")
    return shown


def _kernel_table(rows: list["Row"]) -> Any:
    shown = _headed("op", "form", "kernels", "of many rows", "from")
    for row in rows:
        isas: dict[int, list[str]] = {}
        for isa, count in row.many_from.items():
            isas.setdefault(count, []).append(isa)
        counts = [f"{count} ({', '.join(names)})" for count, names in sorted(isas.items())]
        told = ", ".join(map(str, isas)) if len(isas) == 1 else "; ".join(counts)
        same = row.few == row.many
        shown.add_row(row.op, row.form, row.few, *(("the same", "") if same else (row.many, told)))
    return shown


def _headed(*headings: str) -> Any:
    from rich.table import Table

    shown = Table(show_edge=False)
    for place, heading in enumerate(headings):
        shown.add_column(heading, overflow="fold", no_wrap=not place)
    return shown
