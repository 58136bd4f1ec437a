"""Arithmetic on constants: operators computed in float64 and rounded once at the end."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from addax.ir.rule import decline

