"""Models as optimum and transformers export them: their interface survives, and so does the file.

An encoder (`input_ids`, `attention_mask` -> `last_hidden_state`), and a decoder with past
(`past_key_values.0.key` in, `present.0.key` out, with axes that grow).
"""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from typer.testing import CliRunner

from addax.cli import app

ENCODER = """<ir_version: 8, opset_import: ["": 17], producer_name: "pytorch", doc_string: "small",
 metadata_props: ["task": "feature-extraction", "version": "1"]>
main_graph (int64[batch_size,sequence_length] input_ids,
            int64[batch_size,sequence_length] attention_mask)
    => (float[batch_size,sequence_length,8] last_hidden_state)
    <float[11,8] embeddings__weight, float[8,8] dense__weight, float[8] dense__bias,
     float[1] one = {1}, float[1] low = {-10000}, int64[1] last = {-1}> {
    h = Gather(embeddings__weight, input_ids)
    keep = Cast<to=1>(attention_mask)
    hide = Sub(one, keep)
    bias = Mul(hide, low)
    masked = Unsqueeze(bias, last)
    p = MatMul(h, dense__weight)
    q = Add(dense__bias, p)
    r = Add(q, masked)
    s = Identity(r)
    last_hidden_state = Softmax<axis=1>(s)
}"""

DECODER = """<ir_version: 8, opset_import: ["": 17], metadata_props: ["task": "text-generation"]>
main_graph (int64[batch_size,1] input_ids,
            float[batch_size,2,past_length,4] past_key_values__0__key,
            float[batch_size,2,past_length,4] past_key_values__0__value)
    => (float[batch_size,1,11] logits, float[batch_size,2,total_length,4] present__0__key,
        float[batch_size,2,total_length,4] present__0__value)
    <float[11,8] embed__weight, float[8,8] q__weight, float[8,8] k__weight, float[8,8] v__weight,
     float[8,11] lm_head__weight, int64[4] split = {0, 1, 2, 4}, int64[3] join = {0, 1, 8},
     float half = {0.5}> {
    h = Gather(embed__weight, input_ids)
    q0 = MatMul(h, q__weight)   k0 = MatMul(h, k__weight)   v0 = MatMul(h, v__weight)
    q1 = Reshape(q0, split)    k1 = Reshape(k0, split)    v1 = Reshape(v0, split)
    q2 = Transpose<perm=[0,2,1,3]>(q1)
    k2 = Transpose<perm=[0,2,1,3]>(k1)
    v2 = Transpose<perm=[0,2,1,3]>(v1)
    present__0__key = Concat<axis=2>(past_key_values__0__key, k2)
    present__0__value = Concat<axis=2>(past_key_values__0__value, v2)
    kt = Transpose<perm=[0,1,3,2]>(present__0__key)
    scores = MatMul(q2, kt)
    scaled = Mul(scores, half)
    weights = Softmax<axis=-1>(scaled)
    mixed = MatMul(weights, present__0__value)
    back = Transpose<perm=[0,2,1,3]>(mixed)
    flat = Reshape(back, join)
    logits = MatMul(flat, lm_head__weight)
}"""


def build(path: Path, text: str, *, external: bool) -> onnx.ModelProto:
    """A file with drawn weights; `external`: in a second file, as large exports are."""
    proto = onnx.parser.parse_model(text)
    _write_dots(proto)
    random = np.random.default_rng(0)
    declared = {value.name: value for value in proto.graph.value_info}
    known = {tensor.name for tensor in proto.graph.initializer}
    for name, value in declared.items():
        if name not in known:
            dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            array = random.normal(size=dims).astype(np.float32)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    del proto.graph.value_info[:]
    options = {"location": "model.onnx_data", "size_threshold": 64} if external else {}
    onnx.save(proto, path, save_as_external_data=external, **options)
    return onnx.load(path)


def _write_dots(proto: onnx.ModelProto) -> None:
    """Names as exporters write them: ONNX text has no dots in names, so it says `__`."""
    graph = proto.graph
    for named in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        named.name = named.name.replace("__", ".")
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name.replace("__", ".") for name in names]


def interface(proto: onnx.ModelProto) -> list[tuple[str, int, list[str | int]]]:
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*proto.graph.input, *proto.graph.output)
    ]


def run(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(str(path)).run(None, feeds)


def encoder_feeds(batch: int, length: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(1).integers(0, 11, (batch, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def decoder_feeds(batch: int, length: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    past = random.normal(size=(2, batch, 2, length, 4)).astype(np.float32)
    names = ("past_key_values.0.key", "past_key_values.0.value")
    return {"input_ids": random.integers(0, 11, (batch, 1)), **dict(zip(names, past, strict=True))}


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    ("text", "feeds"), [(ENCODER, encoder_feeds), (DECODER, decoder_feeds)], ids=["encoder", "past"]
)
def test_an_export_keeps_its_interface_and_what_it_computes(tmp_path, text, feeds, external):
    path, out = tmp_path / "model.onnx", tmp_path / "out" / "model.onnx"
    out.parent.mkdir()
    before = build(path, text, external=external)
    result = CliRunner().invoke(app, ["optimize", str(path), "-o", str(out)])
    assert 0 == result.exit_code, result.output
    after = onnx.load(out)
    onnx.checker.check_model(str(out), full_check=True)
    assert interface(before) == interface(after)
    assert before.graph.name == after.graph.name
    kept = {prop.key: prop.value for prop in after.metadata_props}
    assert {prop.key: prop.value for prop in before.metadata_props}.items() <= kept.items()
    assert (before.doc_string, before.producer_name) == (after.doc_string, after.producer_name)
    assert len(after.graph.node) <= len(before.graph.node)
    for batch, length in ((1, 3), (2, 5)):
        given = feeds(batch, length)
        for expected, actual in zip(run(path, given), run(out, given), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_decoder_runs_its_own_past(tmp_path):
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    build(path, DECODER, external=False)
    CliRunner().invoke(app, ["optimize", str(path), "-o", str(out)], catch_exceptions=False)
    sessions = [onnxruntime.InferenceSession(str(file)) for file in (path, out)]
    pasts = [np.zeros((2, 1, 2, 0, 4), np.float32)] * 2
    token = np.array([[3]])
    for step in range(5):
        found = []
        for place, session in enumerate(sessions):
            keys, values = pasts[place]
            feeds = {"input_ids": token, "past_key_values.0.key": keys}
            logits, *past = session.run(None, feeds | {"past_key_values.0.value": values})
            pasts[place] = np.stack(past)
            found.append(int(logits[0, -1].argmax()))
        assert found[0] == found[1]
        assert step + 1 == pasts[1].shape[3]
        token = np.array([[found[0]]])
