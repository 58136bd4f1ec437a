"""Rules of onnxscript as rules of addax: they fire, decline with reasons, keep the laws."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnxscript.rewriter import MatchResult, RewriteRule, RewriteRuleSet
from onnxscript.rewriter.rules.common import (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_gemm_rule,
    successive_relu_rule,
)

from addax.errors import InputError, UnsupportedOpError
from addax.frontend import to_ir
from addax.frontend.from_onnxscript import from_onnxscript
from addax.ir.rule import Exact
from addax.ir.text import to_text
from addax.onnx_pass import as_pass
from addax.testing import check_rule

RELUS = """# fires: the inner one does nothing
<ir_version: 10, opset_import: ["": 20]>
g (float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Relu(a) }
"""

BATCH_NORM = RewriteRuleSet(
    [fuse_batchnorm_into_conv_rule, fuse_batchnorm_into_gemm_rule, fuse_batchnorm_into_gemm_rule]
)


def model(text: str) -> ir.Model:
    return to_ir(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}'))


def halve(op, x):
    return op.Mul(x, op.initializer(ir.tensor(np.float32(0.5)), "half"))


def twice(op, x):
    return op.Add(x, x)


def even(context, x, **_):
    result = MatchResult()
    return result if x.shape[0] % 2 == 0 else result.fail("the first axis is odd", x)


def test_a_rule_of_theirs_keeps_our_laws():
    (rule,) = from_onnxscript([successive_relu_rule], exact=Exact.BITWISE)
    assert rule.name.startswith("onnxscript/")
    assert 1 <= check_rule(rule, cases=RELUS, random_models=5)


def test_a_wrong_rule_is_found_out():
    (rule,) = from_onnxscript([RewriteRule(lambda op, x: op.Neg(x), twice, name="Wrong")])
    with pytest.raises(AssertionError, match="onnxscript/wrong"):
        check_rule(rule, cases=RELUS.replace("Relu", "Neg"), random_models=0)


def test_conditions_are_asked_and_their_reasons_told():
    (rule,) = from_onnxscript([RewriteRule(lambda op, x: op.Abs(x), halve, even, name="Half")])
    runner = as_pass(rules=[rule])
    assert not runner(model("g (float[3] x) => (float[3] y) { y = Abs(x) }")).modified
    assert {"the first axis is odd"} == runner.statistics[rule.name].declined.keys()
    made = runner(model("g (float[4] x) => (float[4] y) { y = Abs(x) }")).model
    assert ["Mul"] == [node.op_type for node in made.graph]


@pytest.mark.parametrize(("commute", "count"), [(False, 1), (True, 0)])
def test_operands_may_commute(commute, count):
    rule = RewriteRule(lambda op, x, y: op.Add(op.Neg(x), y), lambda op, x, y: op.Sub(y, x))
    rules = from_onnxscript([rule], commute=commute)
    graph = model("g (float[2] x, float[2] y) => (float[2] z) { a = Neg(x) z = Add(y, a) }")
    made = as_pass(rules=rules)(graph).model
    assert count == sum(node.op_type == "Neg" for node in made.graph)


def test_a_set_of_rules_has_names_apart():
    names = [rule.name for rule in from_onnxscript(BATCH_NORM, family="theirs")]
    assert len(set(names)) == len(names) > 1
    assert all(name.startswith("theirs/") for name in names)


def test_folded_batch_norm_is_what_it_was():
    rules = from_onnxscript(BATCH_NORM)
    graph = model("""g (float[1,1,4,4] x) => (float[1,1,4,4] y)
    <float[1,1,1,1] w = {2}, float[1] s = {3}, float[1] b = {1}, float[1] m = {4},
     float[1] v = {9}> { c = Conv(x, w) y = BatchNormalization(c, s, b, m, v) }""")
    made = as_pass(rules=rules)(graph).model
    assert ["Conv"] == [node.op_type for node in made.graph]
    assert "BatchNormalization" not in to_text(made)


def test_what_cannot_be_imported_is_refused():
    with pytest.raises(InputError, match=r"expected rules of onnxscript.rewriter, got bui"):
        from_onnxscript(["Relu"])
    pair = RewriteRule(lambda op, x: (op.Neg(x), op.Abs(x)), lambda op, x: (x, x), name="Pair")
    with pytest.raises(UnsupportedOpError, match="the rule Pair of onnxscript replaces 2 outputs"):
        from_onnxscript(RewriteRuleSet([pair]))
