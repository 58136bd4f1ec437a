"""The sources of the library: the C files of this folder, and a header that lists the kernels.

The C files know the operators, the header which machine code there is for them: a row says how
weights of one form, or one operator, are computed with one instruction set. No name in it comes
from a model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

from addax.backends.target import Target

_FEW = 4  # rows, where an instruction set does not say


@dataclass(frozen=True)
class Kernel:
    """A kernel without the instruction set in its name, and how its inputs are prepared.

    Attributes:
        name: As in the catalogue of kernels. One whose name ends in `_many` is given memory to
            decode weights to.
        prepare: The kernel that makes integers of its inputs; "" if it takes floats.
    """

    name: str
    prepare: str = ""


def _linear(form: str, prepare: str = "quantize") -> tuple[Kernel, Kernel]:
    return Kernel(f"{form}_few", prepare), Kernel(f"{form}_many", "quantize")


FORMS: Mapping[str, tuple[Kernel, Kernel]] = {
    **{form: _linear(form) for form in ("codebook4", "codebook2")},
    **{f"binary{planes}": _linear(f"binary{planes}", "tables") for planes in (1, 2, 3, 4)},
    "int8": (Kernel("int8", "quantize"),) * 2,
    "static": (Kernel("int8", "levels"), Kernel("int8", "stairs")),  # by what levels mean
    "log_code": (Kernel("log_code_attention", "values"),) * 2,
    "linear_attention": (Kernel("binary_linear_attention"),) * 2,
    "mixture": (Kernel("int8", "quantize"), Kernel("float_matmul")),  # both, whatever the rows
}
"""For each form of weights and each other operator the kernel for few rows and that for many."""

_WIDTHS = {
    "levels": 1,
    "quantize": 1,
    "stairs": 1,
    "tables": 4,
}  # bytes that a prepared activation takes


@dataclass(frozen=True)
class Path:
    """How one of `FORMS` is computed with one instruction set.

    Attributes:
        form: A key of `FORMS`.
        isa: "avx512", "avx2", "neondot", "neon", "scalar" or "nomul".
        many_from: So many rows of activations are multiplied by the kernel for many rows.
    """

    form: str
    isa: str
    many_from: int


def paths_of(target: Target) -> tuple[Path, ...]:
    """How each of `FORMS` is computed with each instruction set of a target."""
    return tuple(
        Path(form, isa.name, isa.few.get(form, _FEW) + 1) for isa in target.sets for form in FORMS
    )


def sources(paths: Iterable[Path]) -> dict[str, str]:
    """The text of every source file by its name.

    Args:
        paths: What there are kernels for; of the instruction sets that a processor has, the one
            that is named first is preferred.
    """
    files = {
        entry.name: entry.read_text("utf-8")
        for entry in resources.files(__package__).iterdir()
        if entry.name.endswith((".c", ".h"))
    }
    return files | {"kernels.h": _header(tuple(paths))}


def _header(paths: tuple[Path, ...]) -> str:
    """The declarations of all kernels and the table of paths, the preferred ones first."""
    isas = list(dict.fromkeys(path.isa for path in paths))
    names = set[str]()
    rows = []
    for path in sorted(paths, key=lambda path: isas.index(path.isa)):
        few, many = FORMS[path.form]
        names |= {
            _symbol(name, path)
            for kernel in (few, many)
            for name in (kernel.name, kernel.prepare)
            if name
        }
        rows.append(
            f'    {{"{path.form}", "{path.isa}", {isas.index(path.isa)}, {path.many_from},\n'
            f"     {_row(few, path)},\n"
            f"     {_row(many, path)}}},\n"
        )
    hidden = "\n#if !defined(_WIN32)\n#pragma GCC visibility push(hidden)\n#endif\n"
    return (
        "/* The kernels of this library, and who calls them: written by addax. */\n"
        f'#define ISAS "{", ".join(isas)}"\n'
        + hidden
        + "\n".join(f"extern addax_function {name};" for name in sorted(names))
        + hidden.replace("push(hidden)", "pop")
        + "\nstatic const struct path paths[] = {\n"
        + "".join(rows)
        + "    {0}};\n"
    )


def _symbol(kernel: str, path: Path) -> str:
    return f"addax_{kernel}_{path.isa}"


def _row(kernel: Kernel, path: Path) -> str:
    prepare = _symbol(kernel.prepare, path) if kernel.prepare else "0"
    width, wants_memory = _WIDTHS.get(kernel.prepare, 0), int(kernel.name.endswith("_many"))
    return f'{{"{kernel.name}", {prepare}, {_symbol(kernel.name, path)}, {width}, {wants_memory}}}'
