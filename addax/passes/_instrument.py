"""Watching the compiler: instruments hear of every pass and every rewrite, and change nothing.

An instrument overrides the hooks it cares for. `Rewrite` is announced before it is committed,
while the old nodes still stand and the new ones hang beside them.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from addax.ir.builder import Replacement
from addax.ir.match import Matcher
from addax.ir.rule import Decline, Rule
from addax.ir.text import to_text
from addax.ir.verify import verify

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rewrite:
    """One rewrite about to happen: which rule, where, what it was bound to, what it makes."""

    matcher: Matcher
    arguments: tuple[Any, ...]
    replacement: Replacement

    @property
    def root(self) -> ir.Node:
        """The node whose outputs are replaced."""
        return self.replacement.root


class Instrument:
    """Hooks of the event stream; each does nothing unless overridden."""

    def before_pass(self, name: str, model: ir.Model) -> None:
        """The pass `name` is about to run; the model is well formed."""

    def after_pass(self, name: str, model: ir.Model, *, changed: bool) -> None:
        """The pass `name` has run; the model is well formed again."""

    def on_match(self, matcher: Matcher, node: ir.Node) -> None:
        """A rule's pattern matched at `node`; its build function is about to run."""

    def on_rewrite(self, rewrite: Rewrite) -> None:
        """A rewrite is about to be committed."""

    def after_rewrite(self, rewrite: Rewrite, arrivals: list[ir.Node]) -> None:
        """A rewrite was committed; `arrivals` are the nodes that came to the graph with it."""

    def on_share(self, rule: Rule, old: ir.Value, new: ir.Value) -> None:
        """The readers of the initializer `old` are about to read the equal one `new`."""

    def on_decline(self, matcher: Matcher, node: ir.Node, decline: Decline) -> None:
        """A guard refused the match at `node`."""

    def on_failure(self, name: str, model: ir.Model, error: Exception) -> None:
        """The pass `name` raised; the model may be half rewritten."""


class Instruments(Instrument):
    """Several instruments as one."""

    def __init__(self, members: Iterable[Instrument]) -> None:
        self.members = tuple(members)

    def before_pass(self, name: str, model: ir.Model) -> None:
        for member in self.members:
            member.before_pass(name, model)

    def after_pass(self, name: str, model: ir.Model, *, changed: bool) -> None:
        for member in self.members:
            member.after_pass(name, model, changed=changed)

    def on_match(self, matcher: Matcher, node: ir.Node) -> None:
        for member in self.members:
            member.on_match(matcher, node)

    def on_rewrite(self, rewrite: Rewrite) -> None:
        for member in self.members:
            member.on_rewrite(rewrite)

    def after_rewrite(self, rewrite: Rewrite, arrivals: list[ir.Node]) -> None:
        for member in self.members:
            member.after_rewrite(rewrite, arrivals)

    def on_share(self, rule: Rule, old: ir.Value, new: ir.Value) -> None:
        for member in self.members:
            member.on_share(rule, old, new)

    def on_decline(self, matcher: Matcher, node: ir.Node, decline: Decline) -> None:
        for member in self.members:
            member.on_decline(matcher, node, decline)

    def on_failure(self, name: str, model: ir.Model, error: Exception) -> None:
        for member in self.members:
            member.on_failure(name, model, error)


class VerifyEach(Instrument):
    """Raises `InvalidGraphError` right after the pass that broke the graph."""

    def after_pass(self, name: str, model: ir.Model, *, changed: bool) -> None:
        if changed:
            verify(model)


class DumpEach(Instrument):
    """Writes numbered IR text after each pass that changed something (`ADDAX_DUMP=folder`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def before_pass(self, name: str, model: ir.Model) -> None:
        if self._count == 0:
            self._write("input", model)

    def after_pass(self, name: str, model: ir.Model, *, changed: bool) -> None:
        if changed:
            self._write(name, model)

    def _write(self, name: str, model: ir.Model) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self._count:02d}-{name}.txt"
        path.write_text(to_text(model, names="kept"), encoding="utf-8")
        self._count += 1
        _log.info("wrote %s", path)
