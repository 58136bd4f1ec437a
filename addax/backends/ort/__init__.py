"""The library of kernels for ONNX Runtime: C sources, and the table of what they call."""

from addax.backends.ort.forms import form_of
from addax.backends.ort.sources import Path, sources

__all__ = ["Path", "form_of", "sources"]
