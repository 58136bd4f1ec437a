"""The library of kernels for ONNX Runtime: C sources, and the table of what they call."""

from addax.backends.ort.forms import form_of
from addax.backends.ort.sources import FORMS, Path, paths_of, sources

__all__ = ["FORMS", "Path", "form_of", "paths_of", "sources"]
