"""Every exception that addax raises. Imports nothing.

Each class is also the built-in error it resembles, so callers may catch either.
A message says what was expected, what came, where, and what to do.
"""

__all__ = [
    "AddaxError",
    "BudgetError",
    "BuildError",
    "ConvergenceError",
    "EvaluationError",
    "ExportError",
    "InputError",
    "InvalidGraphError",
    "MissingPackageError",
    "ModelFileError",
    "OptionError",
    "UnsupportedOpError",
    "VerificationError",
]


class AddaxError(Exception):
    """The root of every error raised on purpose by addax."""


class OptionError(AddaxError, ValueError):
    """An option's value or name is not one that exists.

    `optimize(model, allow=("shift_add",))` raises it; write `allow=("shift-add",)`.
    """


class BudgetError(AddaxError, ValueError):
    """No plan keeps a budget.

    `optimize(model, budget=Budget(max_bytes=1), ...)` raises it; the message says what is the least
    that can be reached, so that the budget can be one that is met.
    """


class InputError(AddaxError, ValueError):
    """Example inputs or feeds do not fit the model's inputs.

    `session({"x": array_of_rank_3})` for an input `x` of rank 2 raises it; pass what
    `session.inputs` lists.
    """


class ModelFileError(AddaxError, OSError):
    """A model file is missing, truncated, corrupt, or points outside its own folder.

    `optimize("m.onnx")` with a missing `m.onnx.data` raises it; put the data file beside the model.
    """


class InvalidGraphError(AddaxError, ValueError):
    """A graph breaks a rule of well-formedness (`addax.ir.verify` lists them)."""


class UnsupportedOpError(AddaxError, NotImplementedError):
    """An operator or opset that this part of addax has no meaning for.

    The message names the node and the op; the other parts may still accept the model.
    """


class MissingPackageError(AddaxError, ImportError):
    """An optional package is not installed, or in a version that does not work.

    The message is the command that installs it.
    """


class ExportError(AddaxError, RuntimeError):
    """A torch module could not be exported to a graph.

    The message carries the exporter's first line and the place in the user's module.
    """


class EvaluationError(AddaxError, ArithmeticError):
    """A graph could not be evaluated on the given feeds: names the node that failed."""


class BuildError(AddaxError, RuntimeError):
    """The library of kernels could not be built; the message says what to install.

    `optimize` catches it: the model then runs through the bodies of its ops, and the report says
    so.
    """


class ConvergenceError(AddaxError, RuntimeError):
    """Rewriting used up its budget without reaching a fixed point.

    Two rules that undo each other do this; the message names the rules of the last rewrites.
    """


class VerificationError(AddaxError, ValueError):
    """Two models, or a model before and after a pass, differ by more than was promised.

    The message names the pass or the first node where they part, and the distance.
    """
