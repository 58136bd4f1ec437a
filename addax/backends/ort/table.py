"""Which kernels each op of the dialect has, by the form of its weights and the instruction set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from addax.backends.ort.sources import FORMS, Path, paths_of
from addax.backends.target import Target
from addax.ir.dialect import operators

_FORMS = {
    "BinaryLinearAttention": "linear_attention",
    "BinaryMatMul": "binary",
    "CodebookMatMul": "codebook",
    "Int8MatMul": "int8",
    "LogCodeAttention": "log_code",
    "RoutedMoE": "mixture",
    "StaticInt8MatMul": "static",
}

_BOTH = {"mixture", "static"}  # the two kernels are those of two experts, or of two quantizers


@dataclass(frozen=True)
class Row:
    """An op in one form.

    Attributes:
        op: The operator's type.
        form: Of its weights: "codebook4"; "" for an op that always runs through its body.
        few: The kernel for few rows of activations, with the one that prepares them:
            "tables, binary2_few".
        many: The same for many rows.
        many_from: By instruction set, how many rows are many.
    """

    op: str
    form: str = ""
    few: str = ""
    many: str = ""
    many_from: Mapping[str, int] = field(default_factory=dict)


def table(targets: Iterable[Target]) -> list[Row]:
    """A row for each op and form, with the instruction sets of all the targets."""
    paths = list(dict.fromkeys(path for target in targets for path in paths_of(target)))
    rows = []
    for op in sorted(operators()):
        prefix = _FORMS.get(op)
        forms = sorted(form for form in FORMS if prefix and form.startswith(prefix))
        rows += [_row(op, form, paths) for form in forms] or [Row(op)]
    return rows


def _row(op: str, form: str, paths: Iterable[Path]) -> Row:
    few, many = (", ".join(filter(None, (k.prepare, k.name))) for k in FORMS[form])
    if form in _BOTH:
        few = many = f"{few}, {many}"
    many_from = {path.isa: path.many_from for path in paths if path.form == form}
    return Row(op, form, few, many, many_from)
