"""Tensors of field elements, and the oracles that stand for functions that are not rational."""

import hashlib
from functools import lru_cache
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np

from addax.errors import UnsupportedOpError
from addax.ir._field.residues import PRIME, Residues

Kind: TypeAlias = Literal["real", "truth", "whole"]


class Field(np.ndarray):
    """An int64 array of residues that stands for a floating tensor, or for one computed from it.

    `kind` is what the tensor holds in the graph: reals, truth values (a computed condition is an
    element c with true = 1, false = 0, so that Where is c x + (1 - c) y), or integers. `pure`:
    no oracle was asked on the way here. `degree`: that of the numerator and denominator as
    polynomials in the inputs and in what oracles answered, sums counted over a common denominator.
    `digest`: that of the elements, once somebody has asked for it.
    """

    __array_priority__ = 1.0  # so that stacks and concatenations of elements are elements

    kind: Kind
    pure: bool
    degree: float
    digest: bytes | None

    def __array_finalize__(self, source: Any) -> None:
        self.kind = getattr(source, "kind", "real")
        self.pure = getattr(source, "pure", True)
        self.degree = getattr(source, "degree", 1.0)
        self.digest = None

    def item(self, *_: Any) -> NoReturn:
        """Refuses: an element stands for every real number.

        Raises:
            UnsupportedOpError: always.
        """
        raise UnsupportedOpError(
            "a shape, an index, a count or a branch depends on a computed floating value, which a "
            "proof over a field cannot follow; compare the models by evaluation instead"
        )

    def tolist(self) -> NoReturn:
        """Refuses, as `item` does."""
        self.item()


def element(x: Any, kind: Kind = "real", *, pure: bool = True, degree: float = 0.0) -> Field:
    """Residues as a tensor of the evaluation."""
    made = np.asarray(x, dtype=np.int64).view(Field)
    made.kind, made.pure, made.degree = kind, pure, degree
    return made


class Oracle:
    """Random functions, the same for every evaluation with the same `seed`.

    Their answers depend on the name, the seed and the arguments alone, through a 64-bit mix:
    never on Python's hash, so they are the same in every process.
    """

    def __init__(self, seed: int = 0) -> None:
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Answer by another seed from here on."""
        self.seed = seed
        self.asked = False
        self.known: dict[Any, tuple[Any, bool]] = {}
        self._room = _MEMORY

    def learn(self, key: Any, result: tuple[Any, bool]) -> None:
        """Keep what a computation made, while there is room."""
        made = result[0] if isinstance(result[0], tuple) else (result[0],)
        self._room -= sum(getattr(x, "nbytes", 0) for x in made)
        if self._room >= 0:
            self.known[key] = result

    def __call__(self, name: str, *arguments: Any) -> Residues:
        """The answers to equal arguments are equal, all others independent."""
        self.asked = True
        state = np.asarray(_key(name, self.seed))
        with np.errstate(over="ignore"):
            for argument in arguments:
                state = _mixed(state ^ np.asarray(argument).astype(np.uint64))
        return np.asarray((state >> np.uint64(2)).astype(np.int64) % PRIME)

    def odd(self, name: str, x: Residues) -> Residues:
        """A random function with f(-x) = -f(x)."""
        x = np.asarray(x)
        upper = x > PRIME // 2
        made = self(name, np.where(upper, PRIME - x, x))
        return np.where(x == 0, 0, np.where(upper, (PRIME - made) % PRIME, made))

    def even(self, name: str, x: Residues) -> Residues:
        """A random function with f(-x) = f(x)."""
        x = np.asarray(x)
        return self(name, np.minimum(x, (PRIME - x) % PRIME))

    def relu(self, x: Residues) -> Residues:
        """A random function r with r(x) - r(-x) = x; on small integers it is max(x, 0)."""
        x = np.asarray(x)
        upper = x > PRIME // 2
        made = self("Relu", np.where(upper, PRIME - x, x))
        made = np.where(x <= _SMALL, x, np.where(x >= PRIME - _SMALL, 0, made))
        other = upper & (x < PRIME - _SMALL)
        return np.where(other, (made + x) % PRIME, made)


_MEMORY = 1 << 28  # bytes of results that are kept to be looked up
_SMALL = 64
_GOLDEN = 0x9E3779B97F4A7C15


def _mixed(z: Any) -> Any:
    """splitmix64 (Steele, Lea and Flood 2014): a bijection of 64 bits."""
    z = z + np.uint64(_GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@lru_cache(maxsize=1024)
def _key(name: str, seed: int) -> np.ndarray:
    digest = hashlib.blake2b(f"{name}:{seed}".encode(), digest_size=8).digest()
    return np.array(int.from_bytes(digest, "little"), dtype=np.uint64)
