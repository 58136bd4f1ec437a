"""Linear attention where the number of tokens is not in the model, and only stated."""

import pytest

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


@pytest.mark.parametrize("tokens", [0, -3, 2.5, True, "many"])
def test_a_bound_that_is_no_number_of_tokens_is_refused(tokens: object) -> None:
    with pytest.raises(OptionError, match="tokens must be a number of tokens of 1 or more"):
        Pipeline.parse(f"linear-attention{{tokens={tokens!r}}}")
