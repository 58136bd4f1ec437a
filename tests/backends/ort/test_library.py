"""The library in ONNX Runtime: kernels are preferred, right, and may run in many threads."""

import concurrent.futures
import os
import subprocess
import sys

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.backends.ort import form_of
from addax.backends.to_ort import to_ort
from addax.runtime.session import Session
from tests.backends.ort.libraries import (
    FORMS,
    MANY,
    layer,
    reference_library,
    representable,
    weights,
)

SIZES = (1, 7, 8, 9, 31, 32, 33, 64, 127, 128, 129)
ALL_ROWS = (7, 33, 128)


def kernels(model: ir.Model, **options) -> Session:
    return Session(to_ort(model, has_kernel=lambda _: True), library=reference_library(), **options)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("columns", SIZES)
def test_kernels_equal_bodies_on_activations_that_rounding_leaves_alone(form, columns):
    # Rows and columns are tiled apart from each other: not every pair has to be seen.
    for rows in (1, 63, 64, 65, 130) if columns in ALL_ROWS else (65,):
        model = layer(form, rows, columns)
        body, kernel = Session(to_ort(model), threads=1), kernels(model, threads=1)
        for tokens in (1, MANY - 1, MANY, 9):
            x = representable(form, (tokens,), columns, tokens >= MANY)
            np.testing.assert_array_equal(body.run({"x": x})["y"], kernel.run({"x": x})["y"])


@settings(max_examples=60)
@given(
    form=st.sampled_from(FORMS),
    rows=st.integers(1, 200),
    columns=st.integers(1, 300),
    leading=st.lists(st.integers(0, 4), max_size=3),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 9),
)
def test_any_size_rank_and_number_of_threads(form, rows, columns, leading, threads, seed):
    weight = weights(form, rows, columns, seed)[-1]
    tokens = int(np.prod(leading))
    x = representable(form, tuple(leading), columns, tokens >= MANY, seed)
    names = [f"d{i}" for i in range(len(leading))]
    session = kernels(layer(form, rows, columns, names, seed), threads=threads)
    assert (*names, rows) == session.outputs[0].shape
    made = session.run({"x": x})["y"]
    np.testing.assert_array_equal((x.astype(np.float64) @ weight.T).astype(np.float32), made)


@pytest.mark.parametrize("tokens", [1, 40, 600])
@pytest.mark.parametrize("rows", [64, 700])
def test_work_is_divided_without_gaps(tokens, rows):
    model, x = (
        layer("codebook4", rows, 96),
        representable("codebook4", (tokens,), 96, tokens >= MANY),
    )
    one, two = (kernels(model, threads=n).run({"x": x})["y"] for n in (1, 2))
    np.testing.assert_array_equal(Session(to_ort(model)).run({"x": x})["y"], one)
    np.testing.assert_array_equal(one, two)


def test_one_session_runs_in_many_threads():
    session = kernels(layer("binary2", 300, 128), threads=2)
    feeds = [representable("binary2", (1 + i % 5,), 128, 1 + i % 5 >= MANY, i) for i in range(24)]
    alone = [session.run({"x": x})["y"] for x in feeds]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            together = pool.map(lambda x: session.run({"x": x})["y"], feeds)
            for want, have in zip(alone, together, strict=True):
                np.testing.assert_array_equal(want, have)


# --- that kernels are preferred: the comment in onnx.proto says that bodies are ---


def used(session: Session, x: np.ndarray) -> str:
    """Whether the result was rounded to int8 (a kernel) or not (a body)."""
    feeds = {"x": x} | ({"c": np.array(True)} if len(session.inputs) > 1 else {})
    made = session.run(feeds)["y"]
    weight = weights("codebook4", 65, 128)[-1]
    exact = x.astype(np.float64) @ weight.T
    step = np.abs(x).max() / 127 * np.abs(weight).sum(1).max()
    error = np.abs(made - exact).max()
    assert error < step
    return "kernel" if error > 1e-4 * np.abs(exact).max() else "body"


X = np.random.default_rng(0).standard_normal((2, 128)).astype(np.float32)


@pytest.mark.parametrize("optimize", [True, False])
def test_a_registered_kernel_is_preferred_over_the_body(optimize):
    model = layer("codebook4", 65, 128)
    assert "kernel" == used(kernels(model, optimize=optimize), X)
    assert "body" == used(Session(to_ort(model), optimize=optimize), X)


@pytest.mark.parametrize("optimize", [True, False])
def test_a_node_without_a_kernel_keeps_its_body_beside_a_library(optimize):
    model = to_ort(layer("codebook4", 65, 128), has_kernel=lambda _: False)
    assert [("addax.body", "CodebookMatMul")] == [key[:2] for key in model.functions]
    session = Session(model, library=reference_library(), optimize=optimize)
    assert "body" == used(session, X)


def in_a_branch(inside: bool = True) -> ir.Model:
    """The layer in both branches of an If, its weights within the branch or outside."""
    outer = layer("codebook4", 65, 128)
    branches = []
    x, graph = outer.graph.inputs[0], outer.graph
    for name in ("then_branch", "else_branch"):
        model = layer("codebook4", 65, 128)
        node = model.graph[0]
        mine = list(model.graph.initializers.values()) if inside else []
        for value in mine:
            value.name += "_" + name
        model.graph.remove(node)
        operands = node.inputs[1:] if inside else list(graph.initializers.values())
        made = ir.node(node.op_type, [x, *operands], node.attributes, domain=node.domain)
        made.outputs[0].name = "y_" + name
        model.graph.initializers.clear()
        branches.append(
            ir.AttrGraph(
                name, ir.Graph([], made.outputs, nodes=[made], initializers=mine, name=name)
            )
        )
    y = graph.outputs[0]
    graph.remove(graph[0])
    condition = ir.Value(name="c", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    graph.inputs.append(condition)
    choice = ir.Node(
        "", "If", [condition], branches, outputs=[y.__class__(name="y", type=y.type, shape=y.shape)]
    )
    graph.append(choice)
    graph.outputs[0] = choice.outputs[0]
    if inside:
        graph.initializers.clear()
    return outer


@pytest.mark.parametrize("optimize", [True, False])
def test_a_kernel_in_a_branch(optimize):
    model = in_a_branch(inside=True)
    nodes = [node for node in model.graph.all_nodes() if node.domain == "addax"]
    assert ["codebook4"] * 2 == [form_of(node) for node in nodes]
    assert "kernel" == used(kernels(model, optimize=optimize), X)


def test_weights_of_an_outer_graph_are_for_the_body():
    model = in_a_branch(inside=False)
    forms = [form_of(node) for node in model.graph.all_nodes() if node.domain == "addax"]
    assert [None, None] == forms
    made = to_ort(model, has_kernel=lambda node: form_of(node) is not None)
    assert "body" == used(Session(made, library=reference_library()), X)


def in_a_function() -> ir.Model:
    """The layer in a function of the user's, which is called by another one."""
    model = to_ort(layer("codebook4", 65, 128))
    node = model.graph[0]
    for depth in (1, 2):
        inputs = [ir.Value(name=f"i{i}") for i in range(len(node.inputs))]
        inner = ir.node(node.op_type, inputs, node.attributes, domain=node.domain)
        inner.outputs[0].name = "o"
        body = ir.Graph(
            inputs,
            inner.outputs,
            nodes=[inner],
            name="f",
            opset_imports={"": 20, "addax": 1, "u": 1},
        )
        function = ir.Function("u", f"Layer{depth}", "", graph=body, attributes=[])
        model.functions[function.identifier()] = function
        node.domain, node.op_type = "u", f"Layer{depth}"
        node.attributes.clear()
    model.opset_imports["u"] = 1
    return model


@pytest.mark.parametrize("optimize", [True, False])
def test_a_layer_in_a_function_of_the_users(optimize):
    model = in_a_function()
    assert "kernel" == used(kernels(model, optimize=optimize), X)
    assert "body" == used(Session(to_ort(model), optimize=optimize), X)
    careful = to_ort(model, has_kernel=lambda node: form_of(node) is not None)
    session = Session(careful, library=reference_library(), optimize=optimize)
    assert "body" == used(session, X)


VERSIONS = [p for p in os.environ.get("ADDAX_ONNXRUNTIMES", "").split(os.pathsep) if p]
PROGRAM = """
import sys
import numpy as np
import onnxruntime
for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if sys.argv[3] == "kernel":
        options.register_custom_ops_library(sys.argv[2])
    session = onnxruntime.InferenceSession(sys.argv[1], options, ["CPUExecutionProvider"])
    x = np.load(sys.argv[4])
    feeds = {"x": x} | ({"c": np.array(True)} if len(session.get_inputs()) > 1 else {})
    error = np.abs(session.run(None, feeds)[0] - np.load(sys.argv[5])).max()
    print("kernel" if error > 1e-2 else "body")
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not VERSIONS,
    reason="name folders of other versions (pip install --target) in ADDAX_ONNXRUNTIMES",
)
@pytest.mark.parametrize("folder", VERSIONS)
@pytest.mark.parametrize("make", [lambda: layer("codebook4", 65, 128), in_a_function, in_a_branch])
def test_kernels_are_preferred_by_other_versions_too(folder, make, tmp_path):
    (tmp_path / "m.onnx").write_bytes(ir.to_proto(to_ort(make())).SerializeToString())
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", X.astype(np.float64) @ weights("codebook4", 65, 128)[-1].T)
    for which in ("kernel", "body"):
        arguments = ["m.onnx", reference_library(), which, "x.npy", "y.npy"]
        made = subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": folder},
            capture_output=True,
            text=True,
            check=True,
        )
        assert [which] * 2 == made.stdout.split()
