"""Property-based testing of graphs: what addax tests itself with, for your models and rules.

`assert_equivalent` compares two models; `check_rule` asks a rewriting rule for the laws that the
rules of addax obey. `models`, `modules`, `weights` and `feeds` are Hypothesis strategies, for what
to compare and what to compare it on.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "addax.testing draws models with hypothesis, which is not installed: "
        "pip install addax[testing]",
        name="hypothesis",
    ) from error

from addax.testing.equivalent import assert_equivalent
from addax.testing.rules import check_rule
from addax.testing.strategies.graphs import models
from addax.testing.strategies.inputs import feeds, weights
from addax.testing.strategies.modules import modules

__all__ = ["assert_equivalent", "check_rule", "feeds", "models", "modules", "weights"]
