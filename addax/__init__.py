"""addax: a compiler that chops the multiplications out of neural networks.

`addax.optimize(model)` takes a torch module or an ONNX model, rewrites it to a fixed point, and
returns something smaller and faster with an error that was told and agreed to.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from addax.api import Optimized, optimize
    from addax.errors import AddaxError
    from addax.onnx_pass import as_pass
    from addax.planner import Budget
    from addax.runtime.load import load

__version__ = "0.1.0"

_PUBLIC = {
    "AddaxError": "addax.errors",
    "Budget": "addax.planner",
    "Optimized": "addax.api",
    "as_pass": "addax.onnx_pass",
    "load": "addax.runtime.load",
    "optimize": "addax.api",
}

__all__ = ["AddaxError", "Budget", "Optimized", "as_pass", "load", "optimize"]


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that `import addax` loads no torch and no runtime."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'addax' has no attribute {name!r}; it has {__all__}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
