"""The shape rules, one line a fact: `shape_facts.txt` lists operands, a node, and its output."""

from pathlib import Path

import onnx_ir as ir
import pytest

from addax.errors import InvalidGraphError
from addax.ir._literals import shape_key, type_text
from addax.ir.parser import parse_text
from addax.ir.shapes import infer_shapes

HEAD = '<opset_import: ["" : %d, "ai.onnx.ml" : 3, "com.microsoft" : 1]> g '
CONSTANTS = (
    "int64 zero = {0}, int64 one = {1}, int64[1] zero1 = {0}, int64[1] one1 = {1}, "
    "int64[1] two = {2}, int64[1] minus = {-1}, int64[1] eight = {8}, int64 four = {4}, "
    "int64[1] three = {3}, int64[1] four1 = {4}, int64[1] big = {300}"
)


def lines(section: str) -> list[str]:
    """The lines of one section of the file, without remarks."""
    text = Path(__file__).with_name("shape_facts.txt").read_text("utf-8")
    body = text.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return [line for line in body.splitlines() if line and not line.startswith("#")]


def columns(line: str) -> list[str]:
    return [column.strip() for column in line.split(" | ")]


def infer(operands: str, nodes: str, opset: int = 20) -> ir.Model:
    """The model of these nodes, the last of which makes `y`."""
    interface, _, constants = operands.partition(";")
    text = f"({interface}) => (y) <{constants}> {{ {nodes} }}"
    model = parse_text(HEAD % opset + text.replace("<>", ""))
    infer_shapes(model)
    return model


def last(model: ir.Model) -> str:
    """Types and shapes of the last node's outputs; the interface shows no invented names."""
    node = model.graph[len(model.graph) - 1]
    found = ", ".join(type_text(v.type, shape_key(v.shape)) or "?" for v in node.outputs)
    return found.replace('"', "")


@pytest.mark.parametrize("line", lines("facts"))
def test_fact(line: str) -> None:
    operands, node, expected = columns(line)
    assert last(infer(operands, f"y = {node}")) == expected


@pytest.mark.parametrize("line", lines("several outputs"))
def test_several_outputs(line: str) -> None:
    operands, node, expected = columns(line)
    assert last(infer(operands, node)) == expected


@pytest.mark.parametrize("line", lines("computed targets"))
def test_computed_target(line: str) -> None:
    operands, nodes, expected = columns(line)
    assert last(infer(f"{operands}; {CONSTANTS}", nodes)) == expected


@pytest.mark.parametrize("line", lines("older forms"))
def test_older_form(line: str) -> None:
    opset, operands, node, expected = columns(line)
    assert last(infer(operands, f"y = {node}", int(opset))) == expected


@pytest.mark.parametrize("line", lines("contradictions"))
def test_contradiction(line: str) -> None:
    operands, node, message = columns(line)
    with pytest.raises(InvalidGraphError, match=rf"'here': .*{message}"):
        infer(operands, f"[here] y = {node}")
