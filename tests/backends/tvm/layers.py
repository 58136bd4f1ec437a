"""A drawn layer on whatever runs kernels, beside the formula."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from addax.backends.gpu.launch import Launch
from addax.backends.gpu.layers import layers_of
from addax.backends.tvm.sources import kernel_sources
from tests.backends.ort.libraries import layer, representable, weights

SIZES = ((1, 7), (65, 33), (129, 129))  # outputs, columns
TOKENS = ((1, False), (7, False), (18, True))  # tokens, and whether the kernel for many rows


class Device(Protocol):
    """What launches a kernel, named without `addax_`, on arrays that it changes and on numbers."""

    def run(self, kernel: str, arguments: Mapping[str, Any]) -> None: ...


class Make(Protocol):
    """Files of source and what they hold, to a device."""

    def __call__(self, files: Mapping[str, str], launches: Mapping[str, Launch]) -> Device: ...


def check(language: str, form: str, make: Make) -> None:
    """Every size gives what the formula gives, bit for bit."""
    device = None
    for rows, columns in SIZES:
        ((made,), tensors) = layers_of(layer(form, rows, columns))
        if device is None:
            device = make(*kernel_sources(language, made.kernels))
        for tokens, many in TOKENS:
            x = representable(form, (tokens,), columns, many)
            memory = {
                "rows": tokens,
                "x": x,
                "y": np.full((tokens, rows), np.nan, np.float32),
                "q": np.empty(tokens * made.memory["q"], np.uint8),
                "s": np.empty(tokens * made.memory["s"], np.uint8),
            }
            for step in made.many if many else made.few:
                given = {
                    name: tensors[a["tensor"]] if isinstance(a, dict) else memory.get(a, a)
                    for name, a in step.arguments.items()
                }
                device.run(step.kernel, given)
            expected = (x @ weights(form, rows, columns)[-1].T).astype(np.float32)
            np.testing.assert_array_equal(expected, memory["y"])


def blocks(launch: Launch, arguments: Mapping[str, Any]) -> list[int]:
    """Blocks along x and y."""
    return [-(-arguments[extent.parameter] // extent.per) for extent in launch.grid]
