"""A rewrite of one's own: its equation, its guard, its laws, and a model that it makes smaller."""

import onnx.parser
import onnx_ir as ir

import addax
from addax.ir.query import scalar
from addax.ir.rule import Exact, Op, require, rule
from addax.testing import check_rule


def _clipped_twice(op: Op, x: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
    return op.Clip(op.Clip(x, low, high), low, high)


@rule("own/clip-clip", match=_clipped_twice, exact=Exact.BITWISE)
def clip_clip(op: Op, x: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
    """clip(clip(x)) -> clip(x), where the bounds are in order."""
    bounds = scalar(low), scalar(high)
    require(None not in bounds and bounds[0] <= bounds[1], "bounds not known, or not in order", low)
    return op.Clip(x, low, high)


CASES = """# fires: the second one does nothing
<ir_version: 10, opset_import: ["": 20]>
g (float[2,3] x) => (float[2,3] y) <float low = {-1}, float high = {2}> {
    a = Clip(x, low, high)  y = Clip(a, low, high)
}
# declines: bounds not known, or not in order
<ir_version: 10, opset_import: ["": 20]>
g (float[3] x, float low, float high) => (float[3] y) {
    a = Clip(x, low, high)  y = Clip(a, low, high)
}
"""

if __name__ == "__main__":
    print(f"the laws hold; it fired {check_rule(clip_clip, cases=CASES, random_models=20)} times")
    text = CASES.split("# declines")[0].partition("\n")[2]
    made = addax.as_pass(rules=[clip_clip])(ir.from_proto(onnx.parser.parse_model(text)))
    print([node.op_type for node in made.model.graph])
