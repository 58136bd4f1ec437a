"""Layers for GPUs: launches of every node, weights as the kernels read them."""

import numpy as np
import onnx_ir as ir
import pytest

from addax.backends.gpu.layers import has_kernel, layers_of
from tests.backends.ort.libraries import FORMS, layer, weights
from tests.ir.dialect.running import model_of


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_launches_what_rounds_its_activations_and_what_multiplies(form):
    ((made,), tensors) = layers_of(layer(form, 70, 96))
    few, many = ("int8", "int8") if form == "int8" else (f"{form}_few", f"{form}_many")
    first = "tables" if form.startswith("binary") else "quantize"
    assert [first, few] == [step.kernel for step in made.few]
    assert ["quantize", many] == [step.kernel for step in made.many]
    assert {first, few, "quantize", many} == made.kernels
    for step in (made.few[1], made.many[1]):
        named = [argument for argument in step.arguments.values() if isinstance(argument, dict)]
        assert set(tensors) == {argument["tensor"] for argument in named}
        assert 70 == step.arguments["columns"]
    assert 96 == made.few[0].arguments["columns"]
    assert "x" == made.x
    assert "y" == made.y


def test_memory_holds_a_byte_a_column_and_four_for_tables():
    ((made,), _) = layers_of(layer("codebook4", 8, 100))
    assert {"q": 128, "s": 4} == made.memory
    ((made,), _) = layers_of(layer("binary2", 8, 192))
    assert {"q": 4 * 192, "s": 8} == made.memory
    ((made,), _) = layers_of(layer("int8", 8, 300))
    assert {"q": 320, "s": 4} == made.memory


def test_tables_are_repeated_to_64_entries_and_int8_padded_with_zeros():
    (_, tensors) = layers_of(layer("codebook2", 5, 64))
    table = weights("codebook2", 5, 64)[1]["table"]
    np.testing.assert_array_equal(np.tile(table, 16), tensors["table"])
    (_, tensors) = layers_of(layer("int8", 5, 33))
    assert (1, 16, 64, 4) == tensors["weights"].shape
    assert 0 == np.abs(tensors["weights"][:, 9:]).max()


def test_other_nodes_are_left_to_their_bodies():
    x = (ir.DataType.FLOAT, ["B", 8])
    model = model_of("Binarize", {"x": x})
    assert not any(has_kernel(node) for node in model.graph)
    assert ([], {}) == layers_of(model)
