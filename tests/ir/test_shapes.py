"""Shape inference is never wrong: what it says holds of the arrays that the judge computes."""

import contextlib

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addax.errors import EvaluationError, InvalidGraphError
from addax.ir._shape_data import ShapeData
from addax.ir.evaluate import Judge
from addax.ir.model import clone, scopes
from addax.ir.parser import parse_text
from addax.ir.shapes import ShapeInference, infer_shapes
from addax.testing.strategies.arrays import feeds_for
from addax.testing.strategies.graphs import models

HEAD = '<opset_import: ["" : 20, "addax" : 1, "com.microsoft" : 1]> g '


def read(text: str) -> ir.Model:
    return parse_text(HEAD + text)


def shown(value: ir.Value) -> list[int | str | None]:
    return [d if isinstance(d, int) else d.value for d in value.shape]


def forget(model: ir.Model, sizes: dict[str, int], named: set[int]) -> None:
    """Drop every type and shape that is noted inside; give some sizes of inputs names."""
    for scope in scopes(model):
        for node in scope:
            for value in node.outputs:
                value.type = value.shape = None
    counter = 0
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        dims = list(value.shape)
        for axis, size in enumerate(dims):
            counter += 1
            if isinstance(size, int) and counter in named:
                name = f"size{counter}"
                sizes[name] = size
                dims[axis] = ir.SymbolicDim(name)
        value.shape = ir.Shape(dims)


def holds(shape: ir.Shape, array: np.ndarray, sizes: dict[str, int]) -> bool:
    """Whether an array has the shape, under the sizes of names; new names are bound to it."""
    if len(shape) != array.ndim:
        return False
    for dim, size in zip(shape, array.shape, strict=True):
        if isinstance(dim, int):
            if dim != size:
                return False
            continue
        if dim.value is None:
            continue
        if dim.value.isidentifier():
            if sizes.setdefault(dim.value, size) != size:
                return False
            continue
        known = dim.evaluate(sizes)
        if isinstance(known, int) and known != size:
            return False
    return True


@given(models(), st.sets(st.integers(1, 12)))
def test_sound_on_random_models(model: ir.Model, named: set[int]) -> None:
    model = clone(model)
    sizes: dict[str, int] = {}
    feeds = feeds_for([v for v in model.graph.inputs if not v.is_initializer()])
    forget(model, sizes, named)
    infer_shapes(model)
    data = ShapeData()
    main = {value for node in model.graph for value in node.outputs}
    unknown = []

    def watch(value: ir.Value, array: object) -> None:
        if not isinstance(array, np.ndarray):
            return
        if value.shape is None:
            unknown.append(value)
        elif value in main:
            assert holds(value.shape, array, sizes), (value, array.shape)
        else:
            assert holds(value.shape, array, dict(sizes)), (value, array.shape)
        assert value.dtype is None or value.dtype.numpy() == array.dtype, (value, array.dtype)
        contents = data.of(value) if value in main else None
        if contents is not None:
            elements = array.reshape(-1).tolist()
            assert len(contents) == len(elements)
            for dim, element in zip(contents, elements, strict=True):
                known = dim if isinstance(dim, int) else dim.value and dim.evaluate(sizes)
                assert not isinstance(known, int) or known == element, (value, contents, elements)

    try:
        Judge(model).run(feeds, watch=watch)
    except EvaluationError:
        return
    assert all(value.producer().op_type in ("If", "Loop", "Scan") or value not in main
               or any(v is None or v.shape is None for v in value.producer().inputs)
               for value in unknown), unknown  # fmt: skip


@given(models())
def test_every_rank_and_type_of_a_static_graph_is_found(model: ir.Model) -> None:
    model = clone(model)
    if any(node.op_type in ("If", "Loop", "Scan") for node in model.graph):
        return
    declared = {v.name: (v.dtype, shown(v)) for v in model.graph.outputs if v.shape is not None}
    forget(model, {}, set())
    infer_shapes(model)
    for value in model.graph.outputs:
        assert value.dtype is not None
        assert value.shape is not None
        if value.name in declared:
            dtype, dims = declared[value.name]
            assert dtype == value.dtype
            assert len(dims) == len(shown(value))


@given(models())
def test_a_second_run_finds_nothing(model: ir.Model) -> None:
    model = clone(model)
    forget(model, {}, {1, 3})
    infer_shapes(model)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert not infer_shapes(model)
    assert before == ir.to_proto(model).SerializeToString(deterministic=True)


@given(models())
def test_node_by_node_is_the_same(model: ir.Model) -> None:
    whole, single = clone(model), clone(model)
    forget(whole, {}, set())
    forget(single, {}, set())
    infer_shapes(whole)
    inference = ShapeInference(single)
    for node in single.graph:
        inference.infer(node)
    for a, b in zip(whole.graph, single.graph, strict=True):
        assert [(v.dtype, v.shape) for v in a.outputs] == [(v.dtype, v.shape) for v in b.outputs]


@given(models())
def test_nothing_but_types_and_shapes_changes(model: ir.Model) -> None:
    model = clone(model)
    inferred = clone(model)
    infer_shapes(inferred)
    for copy in (model, inferred):
        copy.graph.outputs.clear()
        forget(copy, {}, set())
    assert ir.to_proto(model) == ir.to_proto(inferred)


def test_known_facts_stay_and_are_refined() -> None:
    model = read(
        "(float[batch,3] x) => (float[rows,3] y, float[?,?] z) "
        "<float[B,?] a> { a = Relu(x) b = Exp(a) y = Neg(b) z = Abs(b) }"
    )
    assert infer_shapes(model)
    a, b, y, z = (node.outputs[0] for node in model.graph)
    assert ["B", 3] == shown(a)
    assert ["B", 3] == shown(b)
    assert ["rows", 3] == shown(y)  # the user's name in the interface
    assert ["B", 3] == shown(z)


def test_numbers_take_the_place_of_names_inside() -> None:
    model = read("(float[4] x) => (float[M] y) <float[N] a> { a = Relu(x) y = Neg(a) }")
    infer_shapes(model)
    assert [4] == shown(model.graph[0].outputs[0])
    assert ["M"] == shown(model.graph.outputs[0])


def test_unknown_sizes_inside_get_names_that_are_new() -> None:
    model = read(
        "(float[_d0,?] x, float[?] v) => (float[?,?] y) "
        "{ a = Relu(x) b = NonZero(a) c = Neg(b) y = Cast<to = 1>(c) }"
    )
    infer_shapes(model)
    a, b, c, y = (node.outputs[0] for node in model.graph)
    assert ["_d0", "_d1"] == shown(a)
    assert 2 == shown(b)[0]
    assert shown(b) == shown(c)
    assert "_d2" == shown(b)[1]
    assert [2, None] == shown(y)  # no invented names in the interface


def test_a_negative_size_is_unknown() -> None:
    model = read("(float[N,3] x) => (float[?,3] y) <float[N,3] a> { a = Relu(x) y = Neg(a) }")
    a = model.graph[0].outputs[0]
    model.graph.inputs[0].shape, a.shape = ir.Shape([-1, 3]), ir.Shape([-1, 3])
    assert infer_shapes(model)
    assert [None, 3] == shown(model.graph.inputs[0])
    assert ["_d0", 3] == shown(a)


def test_a_shape_without_facts_stays_none() -> None:
    model = read("(x) => (y) { a = Custom(x) y = Relu(a) }")
    assert not infer_shapes(model)
    assert model.graph.outputs[0].shape is None
    assert model.graph.outputs[0].type is None


def test_initializers_are_completed_from_their_tensors() -> None:
    model = read("(float[2] x) => (float[2] y) <float[2] w> { y = Add(x, w) }")
    w = model.graph.initializers["w"]
    w.type = w.shape = None
    assert infer_shapes(model)
    assert ir.DataType.FLOAT == w.dtype
    assert [2] == shown(w)
    w.shape = ir.Shape(["N"])
    infer_shapes(model)
    assert [2] == shown(w)


def test_initializer_against_its_declaration() -> None:
    model = read("(float[2] x) => (float[2] y) <float[2] w> { y = Add(x, w) }")
    model.graph.initializers["w"].shape = ir.Shape([3])
    with pytest.raises(InvalidGraphError, match=r"'w' is declared as \[3\], but its"):
        infer_shapes(model)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            "float[3] a",
            r"Relu 'n': its output 'a' is declared as \[3\], but the operands",
        ),
        ("float[2,1] a", r"declared as \[2, 1\], but the operands make it \[2\]"),
        ("double[2] a", r"'a' is declared as DOUBLE, but the operands make it FLOAT"),
    ],
)
def test_operands_against_declarations(declared: str, message: str) -> None:
    # A second unknown value keeps the node from being passed over as complete.
    model = read(f"(float[2] x) => (float[2] y) <{declared}> {{ [n] a = Relu(x) y = Neg(a) }}")
    with pytest.raises(InvalidGraphError, match=message):
        ShapeInference(model).infer(model.graph[0])


def test_complete_nodes_are_passed_over() -> None:
    model = read("(float[2] x) => (float[2] y) <float[2] a> { a = Relu(x) y = Neg(a) }")
    assert not infer_shapes(model)


def test_types_are_no_ones_but_their_values() -> None:
    model = read(
        "(bool c, float[2] x) => (float[2] y) { a = If(c) <then_branch = t () => (p) { p = Neg(x) }"
        ", else_branch = e () => (q) { q = Exp(x) }> y = Relu(a) }"
    )
    infer_shapes(model)
    values = [*model.graph.inputs, *(v for n in model.graph.all_nodes() for v in n.outputs)]
    assert len({id(v.type) for v in values}) == len(values)


MALFORMED = (
    *("Add(x)", "MatMul()", "Conv(x, x)", "Reshape(x)", "Slice(x)", "Cast(x)", "Gemm(x, x)"),
    *("Concat(x, x)", "Split(x)", "Transpose<perm = [0, 5]>(x)", "If(x)", "Loop(x)", "Scan(x)"),
    *("Where(x)", "LSTM(x)", "Resize(x)", "Custom(x)"),
)


@pytest.mark.parametrize("body", MALFORMED)
def test_malformed_nodes_crash_nothing(body: str) -> None:
    model = read(f"(float[N] x) => (y) {{ y = {body} }}")
    with contextlib.suppress(InvalidGraphError):
        infer_shapes(model)


def test_long_chains_of_integer_arithmetic() -> None:
    steps = "\n".join(f"v{i + 1} = Add(v{i}, one)" for i in range(1000))
    model = read(
        f"(float[N] x) => (float[M] y) <int64[1] one = {{1}}> "
        f"{{ v0 = Shape(x) {steps} y = ConstantOfShape(v1000) }}"
    )
    infer_shapes(model)
    z = read(
        f"(float[N] x) => (z) <int64[1] one = {{1}}> "
        f"{{ v0 = Shape(x) {steps} z = ConstantOfShape(v1000) }}"
    )
    infer_shapes(z)
    assert ["N + 1000"] == shown(z.graph.outputs[0])


def test_sizes_are_read_from_tensors_and_not_from_sequences():
    """A sequence's shape is that of its elements; Shape takes no sequence."""
    model = read("(seq(float[N,2]) s, float[M,2] x) => (float[M,2] y) { y = Neg(x) }")
    inference = ShapeInference(model)
    assert inference.source("N") is None
    assert inference.source("M") == (model.graph.inputs[1], 0)


def test_elements_of_a_sequence_may_differ_in_size():
    model = read("""(seq(float[N,2]) s) => (float[M,2] y) {
        i = Constant <value_int = 0> ()
        a = SequenceAt(s, i)
        y = Neg(a)
    }""")
    infer_shapes(model)
    size, two = shown(next(n for n in model.graph if n.op_type == "Neg").outputs[0])
    assert size != "N"
    assert 2 == two
