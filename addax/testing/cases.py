"""Case files: graphs in ONNX text, each under a heading that says what a rule does there.

    # fires: twice, because three branches fold pairwise
    <ir_version: 10, opset_import: ["": 18]>
    g (float[5,4] x) => (float[5,3] y) <float[4,3] w1, float[4,3] w2> { ... }

    # declines: the reason that the guard gives
    ...

Further lines that begin with `#` are remarks. Tensors in the angle brackets after the outputs are
initializers; those without a literal are drawn (positive ones where the name has `var` or
`positive` in it). The interface may not be drawn: a `float[4] w` among the inputs is an input.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from addax.errors import InputError
from addax.testing.strategies.arrays import Kind, fill

_HEADING = re.compile(r"^# (fires|declines):[ \t]*(.*)$", re.MULTILINE)
_POSITIVE = re.compile(r"var|positive")


@dataclass(frozen=True)
class Case:
    """One block of a case file."""

    family: str
    variant: str
    line: int
    verb: str
    heading: str
    text: str

    @property
    def rule(self) -> str:
        """The name of the rule that the case is about."""
        return f"{self.family}/{self.variant}"

    def __str__(self) -> str:
        return f"{self.family}.{self.variant}:{self.line}"


def read_cases(folder: Path) -> list[Case]:
    """Every block of every `<family>.<rule>.txt` in a folder, in order."""
    return [case for path in sorted(folder.glob("*.txt")) for case in read_file(path)]


def read_file(path: Path) -> list[Case]:
    """The blocks of one case file.

    Raises:
        InputError: If its name or its text is not that of a case file.
    """
    family, dot, variant = path.stem.partition(".")
    if not dot:
        raise InputError(f"{path.name}: expected a case file to be called <family>.<rule>.txt")
    return read_text(path.read_text("utf-8"), f"{family}/{variant}", where=path.name)


def read_text(text: str, rule: str, *, where: str = "cases") -> list[Case]:
    """The blocks of the text of a case file.

    Args:
        text: Blocks as the header of this module shows them.
        rule: The name of the rule that they are about.
        where: What an error calls the text.

    Raises:
        InputError: If it has no block.
    """
    family, _, variant = rule.partition("/")
    headings = list(_HEADING.finditer(text))
    if not headings:
        raise InputError(
            f"{where}: expected blocks of ONNX text that begin with `# fires: ...` or "
            f"`# declines: ...`, got {text[:60]!r}"
        )
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return [
        Case(
            family,
            variant,
            text.count("\n", 0, heading.start()) + 1,
            heading[1],
            heading[2].strip(),
            re.sub(r"^#.*$", "", text[heading.end() : end], flags=re.MULTILINE),
        )
        for heading, end in zip(headings, ends, strict=True)
    ]


@functools.cache
def parsed(text: str) -> tuple[onnx.ModelProto, tuple[onnx.ValueInfoProto, ...]]:
    """The model of a case, and the declarations of its initializers without a literal."""
    model = onnx.parser.parse_model(text)
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer} | {v.name for v in graph.input}
    known |= {name for node in graph.node for name in node.output}
    free = tuple(v for v in graph.value_info if v.name not in known)
    kept = [v for v in graph.value_info if v.name in known]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    return model, free


def initializer_types(text: str) -> list[tuple[str, np.dtype, tuple[int, ...]]]:
    """Name, element type and shape of each initializer that has to be drawn."""
    return [
        (
            value.name,
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
            tuple(d.dim_value for d in value.type.tensor_type.shape.dim),
        )
        for value in parsed(text)[1]
    ]


def is_positive(name: str) -> bool:
    """Whether an initializer of this name must be drawn positive, as a variance must."""
    return _POSITIVE.search(name) is not None


def build(text: str, arrays: Sequence[np.ndarray]) -> ir.Model:
    """The model of a case with `arrays` as its initializers, in the order of their types."""
    proto = onnx.ModelProto()
    proto.CopyFrom(parsed(text)[0])
    for (name, _, _), array in zip(initializer_types(text), arrays, strict=True):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.serde.deserialize_model(proto)


def draw(text: str, kind: Kind = Kind.WHOLE, seed: int = 0) -> ir.Model:
    """The model of a case with drawn initializers.

    Whole numbers by default: their sums and products are exact, so that the digests of folded
    constants in goldens are the same on every machine.
    """
    arrays = [
        fill(dtype, shape, kind, seed, name=name, positive=is_positive(name))
        for name, dtype, shape in initializer_types(text)
    ]
    return build(text, arrays)
