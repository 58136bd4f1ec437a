"""Random models that are valid by construction and full of redexes.

`models()` draws one short byte string for the model and one for each piece; everything else is
decoded from them (`addax.testing.strategies.sketch`), so that a model takes milliseconds and
shrinks to few pieces with simple choices.
"""

from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import onnx_ir as ir

from addax.testing.strategies import elementwise, linear, movement, scopes
from addax.testing.strategies.sketch import FLOATS, Genes, Names, Sketch

_PIECES = (
    *elementwise.PIECES,
    *linear.PIECES,
    *movement.PIECES,
    *scopes.PIECES,
)
_OPSETS = (20, 18, 21, 17, 13, 23)
_MOST_OUTPUTS = 5


def models(*, max_pieces: int = 8) -> st.SearchStrategy[ir.Model]:
    """Models of up to `max_pieces` pieces, each of one to a dozen nodes."""
    pieces = st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=max_pieces)
    return st.builds(assemble, st.binary(min_size=16, max_size=16), pieces)


def assemble(header: bytes, pieces: Sequence[bytes]) -> ir.Model:
    """The model that belongs to these genes."""
    genes = Genes(header)
    opset = genes.pick(_OPSETS)
    dtype = FLOATS[0] if not genes.flip(0.3) else genes.pick(FLOATS)
    s = Sketch(genes, Names(genes.below(256)), opset, dtype)
    s.fresh_operand(genes.pick([2, 3, 1, 4, 0]))
    for data in pieces:
        s.genes = Genes(data)
        s.genes.pick(_PIECES)(s)
    s.genes = genes
    return _finish(s)


def _finish(s: Sketch) -> ir.Model:
    """Outputs, overridable and unused initializers, forgotten shapes."""
    genes = s.genes
    outputs = _outputs(s)
    inputs = list(s.inputs)
    inputs += [v for v in s.initializers if v.dtype in FLOATS and genes.flip(0.04)]
    if genes.flip(0.2):
        s.constant(np.arange(3.0))
    if genes.flip(0.3):
        _forget(s, outputs)
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=s.nodes,
        initializers=s.initializers,
        opset_imports={"": s.opset, **({scopes.FUNCTIONS: 1} if s.functions else {})},
        name="random",
    )
    return ir.Model(graph, ir_version=10 if s.opset > 20 else 8, functions=s.functions)


def _outputs(s: Sketch) -> list[ir.Value]:
    """What nobody reads, some values that somebody reads, perhaps an input or a value twice."""
    made = {value for node in s.nodes for value in node.outputs}
    computed = [v for v in s.live if v in made]
    leaves = [v for v in computed if not v.uses()]
    outputs = [v for k, v in enumerate(leaves) if k == len(leaves) - 1 or not s.genes.flip(0.2)]
    outputs = outputs[-_MOST_OUTPUTS:]
    read = [v for v in computed if v.uses()]
    if read and s.genes.flip(0.3):
        outputs.append(s.genes.pick(read))
    if s.genes.flip(0.1):
        outputs.append(s.unary("Identity", outputs[0]))
        outputs.append(s.unary("Identity", outputs[0]))
    if s.genes.flip(0.05):
        outputs.append(s.genes.pick(s.inputs))
    if s.genes.flip(0.05):
        outputs.append(s.unary("Identity", s.genes.pick(s.inputs)))
    return list(dict.fromkeys(outputs))


def _forget(s: Sketch, outputs: Sequence[ir.Value]) -> None:
    """Drop what is known of intermediate values, as most exporters do."""
    for node in s.nodes:
        for value in node.outputs:
            if value not in outputs and node.op_type != "Constant":
                value.shape = value.type = None
