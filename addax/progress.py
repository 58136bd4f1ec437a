"""A progress line on a terminal; silence in a pipe."""

import sys
from types import TracebackType
from typing import Self

import onnx_ir as ir
from rich.console import Console
from rich.status import Status

from addax.passes._instrument import Instrument, Rewrite

_EVERY = 64  # rewrites between two updates of the line


class Progress(Instrument):
    """Says on standard error what the compiler is doing.

    Args:
        shown: True, False, or None for "if standard error is a terminal".
    """

    def __init__(self, shown: bool | None = None) -> None:
        self.is_shown = sys.stderr.isatty() if shown is None else shown
        self._status: Status | None = None
        self._rewrites = 0
        self._doing = ""

    def __enter__(self) -> Self:
        if self.is_shown:
            self._status = Console(stderr=True).status("starting")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def step(self, doing: str) -> None:
        """Say what is done now."""
        self._doing = doing
        if self._status is not None:
            rewrites = f" ({self._rewrites} rewrites)" if self._rewrites else ""
            self._status.update(f"{doing}{rewrites}")

    def before_pass(self, name: str, model: ir.Model) -> None:
        """Say which pass runs."""
        self.step(name)

    def on_rewrite(self, rewrite: Rewrite) -> None:
        """Count, and say so now and then."""
        self._rewrites += 1
        if self._rewrites % _EVERY == 0:
            self.step(self._doing)
