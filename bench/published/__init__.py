"""Vision transformers in integers as papers publish it, written anew in torch, to compare with.

Nothing here is fast: tensors stay in float32 and take only values that integers have.
"""

from bench.published._drops import DROPS, Drop
from bench.published._forms import FORMS, Form, quantized

__all__ = ["DROPS", "FORMS", "Drop", "Form", "quantized"]
