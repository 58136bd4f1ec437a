"""Where a pass over whole graphs looks: everywhere but in the bodies of the dialect's operators."""

from collections.abc import Iterator

import onnx_ir as ir

from addax.ir.dialect import DOMAIN
from addax.ir.model import scopes


def open_scopes(model: ir.Model) -> Iterator[ir.Graph | ir.Function]:
    """The graphs and functions of a model that may be rewritten, as `scopes` yields them.

    The bodies of the dialect's operators are what they mean, and stay.
    """
    for scope in scopes(model):
        if getattr(scope, "domain", "") != DOMAIN:
            yield scope
