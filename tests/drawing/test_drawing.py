"""Pictures of graphs: everything is in them, nothing overlaps, and nothing is changed."""

import itertools
from xml.etree import ElementTree

import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings

from addax.drawing import Lineage, draw, draw_pair, legend, rules_of
from addax.drawing.boxes import boxes
from addax.drawing.layers import place
from addax.drawing.svg import colour
from addax.frontend import to_ir
from addax.ir.model import clone
from addax.ir.text import to_text
from addax.passes._pipeline import run_pipeline
from addax.testing import models

FOLDS = """<ir_version: 10, opset_import: ["": 18]>
g (float[2,4] x) => (float[2,1] y) <float one = {1}, float[4,1] w = {1, 2, 3, 4}> {
    a = Mul(x, one)
    b = MatMul(a, w)
    c = Identity(b)
    y = Relu(c)
}"""


def read(text: str) -> ir.Model:
    return to_ir(onnx.parser.parse_model(text))


def chain(count: int) -> ir.Model:
    steps = "".join(f"v{i + 1} = Neg(v{i})\n" for i in range(count))
    return read(f"""<ir_version: 10, opset_import: ["": 18]>
    g (float[2] v0) => (float[2] v{count}) {{ {steps} }}""")


def labels(svg: str) -> list[str]:
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 - our own
    return [text.text for text in texts]


@settings(max_examples=25)
@given(models())
def test_every_operator_of_a_random_model_is_in_the_picture(model):
    graph = to_ir(model)
    before = to_text(graph)
    found = boxes(graph, {}, 10_000)
    drawn = [data["box"] for _, data in found.nodes(data=True)]
    ops = [node for node in graph.graph if node.op_type != "Constant"]
    assert len(ops) == sum(box.kind == "op" for box in drawn)
    assert len(graph.graph.outputs) == sum(box.kind == "output" for box in drawn)
    assert len(drawn) == len(labels(draw(graph)))
    assert before == to_text(graph)


@settings(max_examples=25)
@given(models())
def test_boxes_stand_apart_and_below_what_they_read(model):
    graph = boxes(to_ir(model), {}, 10_000)
    widths = {key: 10.0 + 7 * len(data["box"].label) for key, data in graph.nodes(data=True)}
    layout = place(graph, widths, 40.0)
    for a, b in itertools.combinations(graph, 2):
        (ax, ay), (bx, by) = layout.centres[a], layout.centres[b]
        assert ay != by or abs(ax - bx) >= (widths[a] + widths[b]) / 2
    for source, reader in graph.edges:
        assert layout.centres[source][1] < layout.centres[reader][1]
    for key, (x, y) in layout.centres.items():
        assert widths[key] / 2 <= x <= layout.width - widths[key] / 2
        assert 0 < y < layout.height


@settings(max_examples=25)
@given(models())
def test_a_limit_is_kept(model):
    graph = boxes(to_ir(model), {}, 3)
    inner = [d["box"] for _, d in graph.nodes(data=True) if d["box"].kind in {"op", "block"}]
    assert len(inner) <= 3


def test_a_long_chain_becomes_few_blocks_that_say_what_is_in_them():
    assert ["v0", "100 Neg", "v100"] == labels(draw(chain(100), limit=20))


def test_a_branch_in_each_layer_is_cut_into_parts():
    steps = "".join(f"a{i + 1} = Neg(a{i})\n b{i + 1} = Add(a{i}, b{i})\n" for i in range(30))
    model = read(f"""<ir_version: 10, opset_import: ["": 18]>
    g (float[2] a0, float[2] b0) => (float[2] a30, float[2] b30) {{ {steps} }}""")
    found = labels(draw(model, limit=10))
    assert len(found) <= 10 + 4
    assert any(text.startswith("part 1: ") for text in found)


def test_rewrites_are_told_on_both_sides():
    after = read(FOLDS)
    before, lineage = clone(after), Lineage()
    run_pipeline(after, instruments=[lineage])
    assert {"cleanup"} == {rule.split("/")[0] for rule in lineage.gone.values()}
    page = draw_pair(before, after, lineage.gone, title="a < b")
    assert page.count("<svg") == 2
    assert "before: 4 operators" in page
    assert "after: 2 operators" in page
    assert "<h1>a &lt; b</h1>" in page
    assert colour("cleanup/identity") in page
    assert "cleanup" in legend(lineage.gone)


def test_without_a_lineage_what_is_gone_is_grey():
    after = read(FOLDS)
    before = clone(after)
    run_pipeline(after)
    assert "> gone</span>" in draw_pair(before, after)
    assert colour("gone") in draw_pair(before, after)


def test_the_rules_that_made_a_node_are_its_own_history():
    model = read("""<ir_version: 10, opset_import: ["": 18]>
    g (float[2,4] x) => (float[2,1] y) <float[4,1] w = {1, 2, 3, 4}, float[1] b = {2}> {
        y = Gemm(x, w, b)
    }""")
    assert {} == rules_of(model)
    run_pipeline(model)
    assert {"canonicalize"} == {rule.split("/")[0] for rule in rules_of(model).values()}


def test_families_have_colours_of_their_own():
    from addax.passes._family import families

    assert len(families()) == len({colour(name) for name in families()})
    assert colour("cleanup/identity") == colour("cleanup")


def test_graphs_inside_are_counted():
    model = read("""<ir_version: 10, opset_import: ["": 18]>
    g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] a) { a = Neg(x) },
                   else_branch = e () => (float[2] b) { d = Abs(x) b = Neg(d) }>
    }""")
    assert "If (3 inside) [2]" in labels(draw(model))


@pytest.mark.parametrize("limit", [1, 100])
def test_an_empty_graph_is_an_input_and_an_output(limit):
    model = read("""<ir_version: 10, opset_import: ["": 18]>
    g (float[2] x) => (float[2] x) { }""")
    assert ["x", "x"] == labels(draw(model, limit=limit))
