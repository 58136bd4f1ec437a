"""Attribute paths of tensors in a module: the ONNX name wherever it can be one."""

import functools
import keyword
import re

import torch

_COMPONENT = re.compile(r"[A-Za-z0-9_]+")
_NOT_IN_NAMES = re.compile(r"\W", re.ASCII)


def identifier(name: str) -> str:
    """The name with all but ASCII letters, digits and `_` replaced; never empty."""
    return _NOT_IN_NAMES.sub("_", name) or "_"


class Paths:
    """Gives each tensor or submodule a path of its own, the same one for the same names in order.

    `blocks.0.attn.qkv.weight` stays as it is. A name that Python or torch cannot have as attributes
    (other letters, a keyword, a method of Module, the parent of another name) is flattened to
    letters, digits and `_`, and numbered where that is taken.
    """

    def __init__(self) -> None:
        self._leaves: set[str] = set()
        self._parents: set[str] = set()

    def add(self, name: str) -> str:
        """Reserve a path for `name`."""
        if not self._is_free(name):
            flat = identifier(name)
            flat = f"_{flat}" if flat[0].isdigit() else flat
            candidates = (f"{flat}_{k}" if k else flat for k in range(len(self._leaves) + 2))
            name = next(filter(self._is_free, candidates), f"{flat}_tensor")
        self._leaves.add(name)
        parts = name.split(".")
        self._parents.update(".".join(parts[:k]) for k in range(1, len(parts)))
        return name

    def _is_free(self, path: str) -> bool:
        parts = path.split(".")
        prefixes = [".".join(parts[:k]) for k in range(1, len(parts))]
        return (
            all(_is_attribute(part, is_root=k == 0) for k, part in enumerate(parts))
            and path not in self._leaves | self._parents
            and self._leaves.isdisjoint(prefixes)
        )


def _is_attribute(name: str, *, is_root: bool) -> bool:
    """Whether a module can have an attribute of that name without losing one of its own."""
    is_word = _COMPONENT.fullmatch(name) is not None and not keyword.iskeyword(name)
    return is_word and name not in _reserved(is_root)


@functools.cache
def _reserved(is_root: bool) -> frozenset[str]:
    root = torch.fx.GraphModule({}, torch.fx.Graph())
    return frozenset(dir(root if is_root else torch.nn.Module()))
