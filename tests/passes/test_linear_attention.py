"""Linear attention where the number of tokens is not in the model, and only stated."""

import numpy as np
import pytest

import addax
from addax.errors import OptionError
from addax.ir.parser import parse_text
from addax.passes._pipeline import Pipeline, run_pipeline

OPEN = """
<ir_version: 10, opset_import: ["": 20]>
g (float[2,N,16] q, float[2,16,N] k, float[2,N,32] v) => (float[2,N,32] y) {
    a = MatMul(q, k)
    y = MatMul(a, v)
}
"""


@pytest.mark.parametrize(("tokens", "fires"), [(21, 0), (22, 1), (3136, 1)])
def test_it_fires_from_the_stated_number_of_tokens_on(tokens: int, fires: int) -> None:
    model = parse_text(OPEN)
    statistics = run_pipeline(model, Pipeline.parse(f"linear-attention{{tokens={tokens}}}"))
    assert statistics.applied == fires


@pytest.mark.parametrize(("allow", "order"), [((), 0), (("linear-attention{tokens=64}",), 1)])
def test_optimize_is_told_beside_all_that_runs_anyway(allow: tuple[str, ...], order: int) -> None:
    fast = addax.optimize(parse_text(OPEN), target="portable", allow=allow, progress=False)
    first = next(node for node in fast.model.graph if node.op_type == "MatMul")
    assert [value.name for value in first.inputs] == [["q", "k"], ["k", "v"]][order]
    rng = np.random.default_rng(0)
    for tokens in (1, 7, 64):
        q, k, v = (
            rng.standard_normal(dims).astype(np.float32)
            for dims in ((2, tokens, 16), (2, 16, tokens), (2, tokens, 32))
        )
        expected = (q @ k) @ v
        assert np.abs(fast(q, k, v) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_bound_in_allow_is_refused_as_one_in_a_pipeline_is() -> None:
    with pytest.raises(OptionError, match="tokens must be a number of tokens of 1 or more"):
        addax.optimize(parse_text(OPEN), allow=("linear-attention{tokens=0}",))


@pytest.mark.parametrize("tokens", [0, -3, 2.5, True, "many"])
def test_a_bound_that_is_no_number_of_tokens_is_refused(tokens: object) -> None:
    with pytest.raises(OptionError, match="tokens must be a number of tokens of 1 or more"):
        Pipeline.parse(f"linear-attention{{tokens={tokens!r}}}")
