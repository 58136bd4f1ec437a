"""The sources of the library: the C files of this folder, and a header that lists the kernels.

The C files know the operators, the header which machine code there is for them: a row says how
weights of one form are multiplied with one instruction set. No name in it comes from a model.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from addax.backends.target import Target

FORMS = ("codebook4", "codebook2", "binary1", "binary2", "binary3", "binary4", "int8")
_FEW = 4  # rows, where an instruction set does not say
_NAMES = {"int8": {"few": "int8", "many": "int8"}}  # one kernel for any number of rows
_WIDTHS = {"quantize": 1, "tables": 4}  # bytes that a prepared activation takes


@dataclass(frozen=True)
class Path:
    """How weights of one form are multiplied with one instruction set.

    Attributes:
        form: "codebook4", "codebook2", "binary1" to "binary4" or "int8".
        isa: "avx512", "avx2", "neondot", "neon", "scalar" or "nomul".
        many_from: So many rows of activations are multiplied by the kernel for many rows.
        few: The kernel for fewer rows, without the instruction set; `<form>_few` by default.
        many: The kernel for many rows; `<form>_many` by default. A kernel named so is given memory
            to decode weights to.
        prepare_few: What makes integers of activations for `few`: "quantize" or "tables"; by
            default tables for binary codes.
        prepare_many: The same for `many`.
    """

    form: str
    isa: str
    many_from: int
    few: str = ""
    many: str = ""
    prepare_few: str = ""
    prepare_many: str = "quantize"

    def __post_init__(self) -> None:
        defaults = {
            "few": f"{self.form}_few",
            "many": f"{self.form}_many",
            "prepare_few": "tables" if self.form.startswith("binary") else "quantize",
        }
        for name, value in defaults.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)


def paths_of(target: Target) -> tuple[Path, ...]:
    """How each form of weights is multiplied with each instruction set of a target."""
    return tuple(
        Path(form, isa.name, isa.few.get(form, _FEW) + 1, **_NAMES.get(form, {}))
        for isa in target.sets
        for form in FORMS
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
    prepares, linears = set[str](), set[str]()
    rows = []
    for path in sorted(paths, key=lambda path: isas.index(path.isa)):
        prepares |= {_symbol(path.prepare_few, path), _symbol(path.prepare_many, path)}
        linears |= {_symbol(path.few, path), _symbol(path.many, path)}
        rows.append(
            f'    {{"{path.form}", "{path.isa}", {isas.index(path.isa)}, {path.many_from},\n'
            f"     {_kernel(path.few, path.prepare_few, path)},\n"
            f"     {_kernel(path.many, path.prepare_many, path)}}},\n"
        )
    hidden = "\n#if !defined(_WIN32)\n#pragma GCC visibility push(hidden)\n#endif\n"
    declared = [f"extern addax_prepare {name};" for name in sorted(prepares)]
    declared += [f"extern addax_linear {name};" for name in sorted(linears)]
    return (
        "/* The kernels of this library, and who calls them: written by addax. */\n"
        f'#define ISAS "{", ".join(isas)}"\n'
        + hidden
        + "\n".join(declared)
        + hidden.replace("push(hidden)", "pop")
        + "\nstatic const struct path paths[] = {\n"
        + "".join(rows)
        + "    {0}};\n"
    )


def _symbol(kernel: str, path: Path) -> str:
    return f"addax_{kernel}_{path.isa}"


def _kernel(name: str, prepare: str, path: Path) -> str:
    call, before = _symbol(name, path), _symbol(prepare, path)
    wants_memory = int(name.endswith("_many"))
    return f'{{"{name}", {before}, {call}, {_WIDTHS[prepare]}, {wants_memory}}}'
