"""What users test their own models with: the comparison that addax judges its rewrites by."""

from addax.testing.equivalent import assert_equivalent

__all__ = ["assert_equivalent"]
