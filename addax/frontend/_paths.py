"""Leaves of nested arguments and results, each with the path to it."""

from typing import Any

from torch.utils import _pytree as pytree


def leaves_with_paths(tree: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """The leaves of a tree and the steps to each.

    A class may be known to torch without names for its parts; these are then told by number.
    """
    try:
        return list(pytree.tree_flatten_with_path(tree)[0])
    except ValueError:
        leaves, _ = pytree.tree_flatten(tree)
        return [((pytree.SequenceKey(place),), leaf) for place, leaf in enumerate(leaves)]
