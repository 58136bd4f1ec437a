"""to_torch: interface, names, memory, functions, control flow, shape arithmetic."""

import copy
import pickle
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from addax.backends._torch_ops.paths import Paths
from addax.backends.to_ort import to_ort
from addax.backends.to_torch import to_torch
from addax.errors import InvalidGraphError, ModelFileError
from addax.ir.evaluate import evaluate
from addax.ir.origin import set_origin
from tests.backends.exchange import as_numpy, assert_same, parsed
from tests.ir.test_dialect import codebook_model

# The interface.


def test_one_output_is_a_tensor_several_are_a_tuple_and_none_is_empty():
    one = to_torch(parsed("g (float[2] x) => (float[2] y) { y = Neg(x) }"))
    two = to_torch(parsed("g (float[2] x) => (float[2] y, float[2] z) { y = Neg(x) z = Abs(x) }"))
    none = parsed("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    none.graph.outputs.clear()
    x = torch.tensor([1.0, -2.0])
    assert torch.equal(one(x), -x)
    assert [t.tolist() for t in two(x)] == [[-1.0, 2.0], [1.0, 2.0]]
    assert to_torch(none)(x) == ()


def test_outputs_may_be_inputs_constants_and_each_other():
    model = parsed("g (float[2] x) => (float[2] y) <float[2] w = {5, 6}> { y = Add(x, w) }")
    x, w, y = model.graph.inputs[0], model.graph.initializers["w"], model.graph.outputs[0]
    model.graph.outputs.clear()
    model.graph.outputs.extend([y, x, w, y])
    given = torch.tensor([1.0, 2.0])
    made = to_torch(model)(given)
    assert [t.tolist() for t in made] == [[6.0, 8.0], [1.0, 2.0], [5.0, 6.0], [6.0, 8.0]]
    assert made[1] is given


def test_arguments_can_be_named_and_inputs_with_a_value_left_out():
    model = parsed("g (float[2] x, float[2] s) => (float[2] y) { y = Mul(x, s) }")
    s = model.graph.inputs[1]
    s.const_value = ir.tensor(np.array([2, 3], np.float32))
    model.graph.register_initializer(s)
    module = to_torch(model)
    assert module(x=torch.ones(2)).tolist() == [2.0, 3.0]
    assert module(torch.ones(2), torch.zeros(2)).tolist() == [0.0, 0.0]
    model.ir_version = 3  # every weight had to be an input then
    with pytest.raises(TypeError, match="positional argument"):
        to_torch(model)(torch.ones(2), torch.zeros(2))


def test_absent_inputs_and_unused_outputs():
    module = to_torch(
        parsed("""g (float[1, 2, 2, 2] x) => (float[1, 2, 1, 1] y) <float high = {2}> {
            a = Clip(x, , high)
            y, places = MaxPool <kernel_shape = [2, 2]> (a)
        }""")
    )
    assert module(torch.arange(8.0).reshape(1, 2, 2, 2)).flatten().tolist() == [2.0, 2.0]


def test_the_model_is_left_as_it_was_and_shares_no_memory():
    model = parsed("g (float[2] x) => (y) <float[2] w = {5, 6}> { a = Add(x, w) y = Neg(a) }")
    module = to_torch(model)
    with torch.no_grad():
        module.w.zero_()
    assert model.graph.initializers["w"].const_value.numpy().tolist() == [5.0, 6.0]
    assert model.graph[0].outputs[0].type is None


def test_modules_copy_pickle_and_move():
    module = to_torch(parsed("g (float[N] x) => (y) <float[2] w = {1, 2}> { y = Add(x, w) }"))
    x = torch.ones(2)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301
        assert torch.equal(other(x), module(x))
        assert list(other.state_dict()) == ["w"]
    assert module.double()(x.double()).dtype == torch.float64


# Names.

HOSTILE = 'x"); import os; os.abort() #'


def test_names_reach_source_only_as_identifiers():
    model = parsed("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    model.graph.inputs[0].name = HOSTILE
    model.graph.outputs[0].name = "class"
    weight = model.graph.initializers.pop("w")
    weight.name = f"blocks.{HOSTILE}.weight"
    model.graph.register_initializer(weight)
    module = to_torch(model)
    assert "os.abort" not in module.code
    (path,) = module.state_dict()
    assert path.isidentifier()
    assert module.meta["onnx"] == {
        "inputs": [HOSTILE],
        "outputs": ["class"],
        "initializers": {path: weight.name},
    }
    assert module(torch.zeros(2)).tolist() == [1.0, 2.0]


def test_weights_keep_names_that_attributes_can_have():
    names = ["blocks.0.attn.qkv.weight", "a", "a.b", "a.self.c", "class", "forward", "x/y", "0", ""]
    paths = Paths()
    assert [paths.add(name) for name in names] == [
        *("blocks.0.attn.qkv.weight", "a", "a_b", "a_self_c", "class_1", "forward_1"),
        *("x_y", "0", "_"),
    ]


@given(st.lists(st.text(st.sampled_from("ab.01 /é"), max_size=5)))
def test_paths_are_distinct_attributes_the_same_for_the_same_names(names):
    paths, again = Paths(), Paths()
    made = [paths.add(name) for name in names]
    assert len(set(made)) == len(names)
    assert made == [again.add(name) for name in names]
    graph = torch.fx.Graph()
    for path in made:
        graph.get_attr(path)
    graph.output(())
    tensors = {path: torch.tensor(k) for k, path in enumerate(made)}
    module = torch.fx.GraphModule(tensors, graph)
    assert {path: int(tensor) for path, tensor in module.state_dict().items()} == {
        path: k for k, path in enumerate(made)
    }


def test_an_initializer_with_two_readers_is_one_parameter_and_tied_tensors_are_one():
    model = parsed("""g (float[2, 2] x) => (y) <float[2, 2] w = {1, 2, 3, 4}> {
        a = MatMul(x, w) y = MatMul(a, w)
    }""")
    assert [name for name, _ in to_torch(model).named_parameters()] == ["w"]
    tied = ir.Value(name="v", const_value=model.graph.initializers["w"].const_value)
    model.graph.register_initializer(tied)
    model.graph[1].replace_input_with(1, tied)
    module = to_torch(model)
    assert module.v is module.w


TRAINABLE = """g (float[N, 4] x) => (y, z, m)
    <float[4, 4] w = {0}, float[4] bias = {0}, float[4] gamma = {0}, float[4, 4] angles = {0},
     float[4, 4] mask = {0}, float one = {1}, float[1] single = {1}, float[4] mean = {0},
     int64[2] target = {-1, 4}> {
        wt = Transpose(w)
        a = MatMul(x, wt)
        b = Add(a, bias)
        c = Mul(gamma, b)
        d = Mul(c, angles)
        e = Add(d, mask)
        f = Mul(e, one)
        h = Add(f, single)
        y = Reshape(h, target)
        i = Transpose <perm = [1, 0]> (y)
        z = BatchNormalization(x, gamma, bias, mean, gamma)
        m = Identity(i)
    }"""


def test_weights_are_parameters_and_other_constants_buffers():
    model = parsed(_filled(TRAINABLE))
    mask = model.graph.initializers["mask"]
    mask.const_value = ir.tensor(np.triu(np.full((4, 4), -np.inf, np.float32), 1))
    module = to_torch(model)
    assert {name for name, _ in module.named_parameters()} == {"w", "bias", "gamma"}
    assert {name for name, _ in module.named_buffers()} == {"angles", "mask", "single", "mean"}
    kind = "pkg.torch.export.graph_signature.InputSpec.kind"
    model.graph.initializers["gamma"].metadata_props[kind] = "BUFFER"
    model.graph.initializers["angles"].metadata_props[kind] = "PARAMETER"
    names = {name for name, _ in to_torch(model).named_parameters()}
    assert names == {"w", "bias", "angles"}


def _filled(text: str) -> str:
    for size in (16, 4):
        shape = "[4, 4]" if size == 16 else "[4]"
        parts = text.split(f"float{shape} ")
        ones = "{" + ", ".join(["1"] * size) + "}"
        head, *rest = parts
        text = head + "".join(f"float{shape} " + part.replace("{0}", ones, 1) for part in rest)
    return text


def test_nodes_are_named_after_values_and_carry_origins():
    model = parsed("g (float[2] x) => (float[2] y) { A_1 = Neg(x) y = Softmax(A_1) }")
    set_origin(model.graph[1], "head", "softmax", "net.py:3")
    nodes = {node.name: node for node in to_torch(model).graph.nodes}
    assert list(nodes) == ["x", "A_1", "y", "output"]
    assert str(nodes["y"].meta["origin"]) == "head softmax at net.py:3"
    assert "origin" not in nodes["A_1"].meta


# External data.


def external(folder: Path) -> ir.Model:
    model = parsed("g (float[2, 2] x) => (y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }")
    ir.save(model, folder / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    return ir.load(folder / "m.onnx")


def test_external_weights_are_mapped_and_training_leaves_the_file_alone(tmp_path):
    module = to_torch(external(tmp_path))
    before = (tmp_path / "m.data").read_bytes()
    assert module(torch.eye(2)).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    with torch.no_grad():
        module.w.zero_()
    assert module(torch.eye(2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert (tmp_path / "m.data").read_bytes() == before


def test_external_data_that_is_cut_off_or_gone_is_named(tmp_path):
    model = external(tmp_path)
    (tmp_path / "m.data").write_bytes(b"123")
    with pytest.raises(ModelFileError, match=r"tensor 'w' needs 16 bytes at offset 0 of 'm.data'"):
        to_torch(model)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelFileError, match="put the complete data file beside the model"):
        to_torch(model)


# Shape arithmetic.

FLATTENED = """g (float[N, H, 4] x) => (y) <int64[1] four = {4}, int64[1] minus = {-1}> {
    shape = Shape(x)
    zero = Constant <value_int = 0> ()
    n = Gather(shape, zero)
    n1 = Unsqueeze(n, axes)
    target = Concat <axis = 0> (n1, minus)
    axes = Constant <value_ints = [0]> ()
    y = Reshape(x, target)
}"""


def test_sizes_are_computed_in_python_and_stay_symbolic():
    lines = FLATTENED.splitlines()
    lines.insert(2, lines.pop(6))
    module = to_torch(parsed("\n".join(lines)))
    assert [node.op for node in module.graph.nodes] == [
        "placeholder", "call_method", "call_method", "output",
    ]  # fmt: skip
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(module(x), x.reshape(2, 12))
    batch, height = torch.export.Dim("batch"), torch.export.Dim("height")
    program = torch.export.export(module, (x,), dynamic_shapes={"x": {0: batch, 1: height}})
    assert program.module()(torch.ones(5, 7, 4)).shape == (5, 28)


@settings(max_examples=20)
@given(st.integers(0, 5), st.integers(1, 5), st.integers(-7, 7).filter(bool))
def test_arithmetic_on_sizes_agrees_with_the_judge(n, m, k):
    model = parsed(f"""g (float[N, M] x) => (a, b, c, d, e, f, h) <int64 k = {{{k}}},
        int64[1] ax = {{0}}, int64[2] none = {{-1, -1}}> {{
        s = Shape(x)
        first = Constant <value_int = 0> ()
        n = Gather(s, first)
        nk = Mul(n, k)
        part = Div(nk, k)
        a = Sub(part, k)
        rest = Mod(n, k)
        b = Add(rest, n)
        most = Max(n, k)
        least = Min(n, k)
        pair = Unsqueeze(most, ax)
        low = Unsqueeze(least, ax)
        c = Concat <axis = 0> (pair, low, s)
        unset = Equal(s, none)
        ones = ConstantOfShape <value = int64[1] {{1}}> (two)
        two = Constant <value_ints = [2]> ()
        d = Where(unset, ones, s)
        e = ReduceProd <keepdims = 0> (s)
        f = Range(first, n, one)
        one = Constant <value_int = 1> ()
        less = Less(n, k)
        h = Cast <to = 7> (less)
    }}""")
    model.graph.sort()
    x = np.zeros((n, m), np.float32)
    expected = evaluate(model, {"x": x})
    got = to_torch(model)(torch.from_numpy(x))
    for value, tensor in zip(model.graph.outputs, got, strict=True):
        assert expected[value.name].tolist() == tensor.tolist(), value.name
        assert str(expected[value.name].dtype) == str(tensor.dtype).removeprefix("torch.")


# Functions and control flow.

CALLS = """<ir_version: 10, opset_import: ["": 20, "own": 1]>
g (float[2] x) => (float[2] y) { a = own.twice <by = 3.0> (x) y = own.twice(a) }
<domain: "own", opset_import: ["": 20, "own": 1]>
twice <by: float = 2.0> (x) => (y) {
    n = Constant <value_float: float = @by> ()
    m = Mul(x, n)
    y = own.keep(m)
}
<domain: "own", opset_import: ["": 20]>
keep (x) => (x1) { x1 = Identity(x) }
"""


def test_functions_are_recorded_in_place_with_their_attributes():
    module = to_torch(parsed(CALLS))
    assert module(torch.ones(2)).tolist() == [6.0, 6.0]
    assert [node.name for node in module.graph.nodes] == ["x", "a", "y", "output"]


def test_a_function_that_calls_itself_is_refused():
    model = parsed(
        CALLS.replace("x1 = Identity(x)", "x1 = own.twice(x)").replace(
            '"own", opset_import: ["": 20]', '"own", opset_import: ["": 20, "own": 1]'
        )
    )
    with pytest.raises(InvalidGraphError, match="may not call itself"):
        to_torch(model)


def test_dialect_ops_are_recorded_by_their_bodies_and_learn_their_scales():
    rng = np.random.default_rng(0)
    codes, table = rng.integers(0, 16, (3, 8)), rng.integers(-9, 9, 16).astype(np.int8)
    scale = rng.standard_normal(3).astype(np.float32)
    model = codebook_model(codes, table, scale, bits=4)
    x = rng.standard_normal((5, 8)).astype(np.float32)
    module = to_torch(model)
    y = module(torch.from_numpy(x))
    assert_same(evaluate(to_ort(model), {"x": x})["y"], as_numpy(y), 1e-5, 1e-5)
    assert [name for name, _ in module.named_parameters()] == ["scale"]
    y.square().sum().backward()
    assert module.scale.grad.isfinite().all()
    assert module.scale.grad.any()


BRANCHES = """g (float[2] x, bool go) => (float[2] y) <float[2] w = {1, 2}> {
    y = If (go) <
        then_branch = t () => (float[2] a) { a = Add(x, w) },
        else_branch = f () => (float[2] b) { c = Neg(x) b = Mul(c, w) }
    >
}"""


def test_branches_run_as_modules_and_export_as_cond():
    module = to_torch(parsed(BRANCHES))
    x, yes, no = torch.tensor([1.0, 1.0]), torch.tensor(True), torch.tensor(False)
    assert module(x, yes).tolist() == [2.0, 3.0]
    assert module(x, no).tolist() == [-1.0, -2.0]
    module(x, no).sum().backward()
    assert module.w.grad.tolist() == [-1.0, -1.0]
    program = torch.export.export(module, (x, yes))
    assert program.module()(x, no).tolist() == [-1.0, -2.0]


def test_a_branch_that_is_known_is_recorded_in_place():
    model = parsed(BRANCHES.replace(", bool go", "").replace("{1, 2}>", "{1, 2}, bool go = {0}>"))
    assert [n.name for n in to_torch(model).graph.nodes if n.op == "call_function"] == ["c", "y"]


LOOP = """g (int64 n, float[2] x) => (float[2] last, float[M, 2] all) <float[2] w = {1, 2}> {
    yes = Constant <value = bool {1}> ()
    last, all = Loop (n, yes, x) <body = b (int64 k, bool go, float[2] s) =>
        (bool more, float[2] t, float[2] each) {
            t = Add(s, w)
            each = Identity(t)
            total = ReduceSum <keepdims = 0> (t)
            limit = Constant <value_float = 12.0> ()
            more = Less(total, limit)
    }>
}"""


def test_loops_carry_stack_and_stop():
    module = to_torch(parsed(LOOP))
    x = torch.zeros(2)
    last, stacked = module(torch.tensor(2), x)
    assert last.tolist() == [2.0, 4.0]
    assert stacked.tolist() == [[1.0, 2.0], [2.0, 4.0]]
    assert module(torch.tensor(9), x)[0].tolist() == [4.0, 8.0]  # the condition ends it
    last, stacked = module(torch.tensor(0), x)
    assert last.tolist() == [0.0, 0.0]
    assert stacked.shape == (0, 2)


def test_a_malformed_model_is_refused():
    model = parsed("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    model.graph[0].replace_input_with(0, ir.Value(name="lost"))
    with pytest.raises(InvalidGraphError, match="'lost'"):
        to_torch(model)
