"""The judge's kernels against onnx's schemas: every attribute of every opset, and its default."""

from typing import Any

import onnx
import pytest
from onnx.defs import OpSchema

from addax.ir._judge import control
from addax.ir._judge.meaning import _RANDOM
from addax.ir._judge.ops import find
from addax.ir._judge.reference import _classes, schema_body

SCHEMAS = [s for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""]

SPELT_WRONG = {("GRU", 1, "direction")}  # the schema says "foward"
BY_DIRECTION = {"activations"}  # `()` stands for the default of as many directions as there are
NO_MEANING = {"Constant", "MaxRoiPool"}  # the first is read where a graph is compiled


def default(attribute: OpSchema.Attribute) -> Any:
    """The value that an absent attribute has, `None` where the schema leaves it open."""
    return onnx.helper.get_attribute_value(attribute.default_value)


OURS = [s for s in SCHEMAS if find("", s.name, s.since_version)]


@pytest.mark.parametrize("schema", OURS, ids=lambda s: f"{s.name}-{s.since_version}")
def test_a_kernel_knows_the_attributes_of_its_opset(schema):
    kernel = find("", schema.name, schema.since_version)
    assert kernel is not None
    assert set(schema.attributes) - kernel.attributes == set()
    defaults = getattr(kernel.call, "__kwdefaults__", None) or {}
    for name, attribute in schema.attributes.items():
        if (schema.name, schema.since_version, name) in SPELT_WRONG or name in BY_DIRECTION:
            continue
        if attribute.default_value.type and name in defaults:
            expected = default(attribute)
            expected = expected.decode() if isinstance(expected, bytes) else expected
            assert expected == defaults[name], name
        assert not (attribute.required and defaults.get(name)), name


def test_every_op_of_onnx_has_a_meaning_or_is_named_here():
    names = {s.name for s in SCHEMAS if not s.deprecated}
    newest = onnx.defs.onnx_opset_version()
    known = {
        name
        for name in names
        if find("", name, newest)
        or name in _classes("")
        or name in control.MAKERS
        or name in _RANDOM
        or schema_body("", name, newest)
    }
    assert names - known == NO_MEANING & names - known
