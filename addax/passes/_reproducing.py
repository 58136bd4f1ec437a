"""Crash folders: when a pass raises, what anybody needs to see it raise again.

    addax-repro-1f0c9a2b/
        model.onnx       the model before the pass
        model.txt        the same as text
        pipeline.txt     what was still to run
        command.txt      one command line that raises the same error
        error.txt        the error, with its traceback
        versions.txt

`ADDAX_REPRO=folder` says where, instead of the current folder; `ADDAX_REPRO=` turns it off.
`ADDAX_REPRO_LIMIT=megabytes` bounds the weights that are written, by default 2000.
"""

import hashlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from addax.errors import InputError, OptionError
from addax.ir.match import Matcher
from addax.ir.model import clone, save
from addax.ir.origin import describe
from addax.ir.rule import Rule
from addax.ir.text import to_text
from addax.passes._instrument import Instrument, Rewrite
from addax.passes._pipeline import Pipeline, Step, run_pipeline

_LIMIT = 2000.0
_PACKAGES = ("addax", "numpy", "onnx", "onnx-ir", "onnxruntime", "torch")


class Reproduce(Instrument):
    """Leaves a crash folder when a pass raises, and names it in a note of the error.

    Costs nothing until then: the model before the pass is made anew, by as many rewrites as there
    had been.

    Args:
        again: Makes the model as it was before the pipeline.
        plan: The pipeline.
        options: Further options of the command line, such as `--certificate c.json`.
    """

    def __init__(
        self, again: Callable[[], ir.Model], plan: Pipeline, options: tuple[str, ...] = ()
    ) -> None:
        self._again, self._plan, self._options = again, plan, options
        self._count = self._before = 0
        self._last = ""

    def before_pass(self, name: str, model: ir.Model) -> None:
        """Remember how many rewrites there had been."""
        self._before, self._last = self._count, ""

    def on_match(self, matcher: Matcher, node: ir.Node) -> None:
        """Remember the rule at work."""
        self._last = f"{matcher.rule.name} at {describe(node)}"

    def after_rewrite(self, rewrite: Rewrite, arrivals: list[ir.Node]) -> None:
        """Count."""
        self._count += 1

    def on_share(self, rule: Rule, old: ir.Value, new: ir.Value) -> None:
        """Count."""
        self._count += 1

    def on_failure(self, name: str, model: ir.Model, error: Exception) -> None:
        """Write the folder; whatever goes wrong with that becomes a note too."""
        where = os.environ.get("ADDAX_REPRO", ".")
        if not where or isinstance(error, InputError | OptionError):
            return
        try:
            folder, remark = self._write(name, error, Path(where))
        except Exception as failure:  # the pass's own error must not be hidden by this one
            error.add_note(f"no folder to reproduce this could be written: {failure}")
            return
        error.add_note(f"to reproduce this, see command.txt in {folder}{remark}")

    def _write(self, name: str, error: Exception, where: Path) -> tuple[Path, str]:
        model = self._again()
        run_pipeline(model, self._plan, fuel=self._before)
        text = to_text(model, names="kept")
        what = f"pass {name}, rule {self._last or 'none'}"
        head = f"{what}\n{type(error).__name__}: {error}\n"
        digest = hashlib.blake2b((head + text).encode(), digest_size=6).hexdigest()
        folder = where / f"addax-repro-{digest}"
        size = _megabytes(model)
        is_small = size <= _limit()
        remark = f" ({size:.0f} MB of weights)" if size > 100 else ""
        if not is_small:
            remark = f" (without the model: {size:.0f} MB of weights, ADDAX_REPRO_LIMIT is less)"
        if folder.exists():
            return folder, remark
        where.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".addax-repro-", dir=where))
        try:
            plan, is_same = self._shortest(model, name, error)
            (staged / "model.txt").write_text(text, "utf-8")
            (staged / "pipeline.txt").write_text(f"{plan}\n", "utf-8")
            (staged / "command.txt").write_text(self._command(plan, is_same=is_same), "utf-8")
            trace = "".join(traceback.format_exception(error))
            (staged / "error.txt").write_text(f"{head}\n{trace}", "utf-8")
            (staged / "versions.txt").write_text(_versions(), "utf-8")
            if is_small:
                save(model, staged / "model.onnx")
            staged.chmod(0o755)
            if not folder.exists():
                staged.rename(folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return folder, remark

    def _command(self, plan: Pipeline, *, is_same: bool) -> str:
        words = ["addax optimize model.onnx", "--output out.onnx", f"--pipeline '{plan}'"]
        line = " ".join([*words, *self._options]) + "\n"
        if is_same:
            return line
        return f"# The model as it was before the pass does not show the error alone.\n{line}"

    def _shortest(self, model: ir.Model, name: str, error: Exception) -> tuple[Pipeline, bool]:
        """The shortest of some pipelines that raises the same error on the model, if one does."""
        steps = self._plan.steps
        rule = self._last.partition("/")[0]
        alone = [step for step in steps if step.family.name in {rule, name}]
        at = next((s.family.phase for s in alone), None)
        phase = [step for step in steps if step.family.phase == at]
        for some in (alone, phase):
            if some and self._raises(model, some, error):
                return Pipeline(tuple(some)), True
        return self._plan, self._raises(model, list(steps), error)

    def _raises(self, model: ir.Model, steps: list[Step], error: Exception) -> bool:
        try:
            run_pipeline(clone(model), Pipeline(tuple(steps)))
        except Exception as raised:  # of whatever kind the first one was
            return type(raised) is type(error)
        return False


def _limit() -> float:
    text = os.environ.get("ADDAX_REPRO_LIMIT", "")
    try:
        return float(text) if text else _LIMIT
    except ValueError:
        return _LIMIT


def _megabytes(model: ir.Model) -> float:
    tensors = [v.const_value for g in model.graphs() for v in g.initializers.values()]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None) / 1e6


def _versions() -> str:
    lines = [f"python {platform.python_version()} on {platform.platform()}"]
    for package in _PACKAGES:
        try:
            lines.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{package} not installed")
    return "\n".join(lines) + "\n"
