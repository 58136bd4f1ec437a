"""Packed layouts of codes: what the ops `CodebookMatMul` and `BinaryMatMul` hold, and back.

A tile is 64 rows; four bytes of a row are four consecutive columns. T = ceil(N / 64) tiles,
G = ceil(K / group) groups. What is beyond N and K is zero.

    codebook    codes uint8[T, G, S, 64, 4], S = group * bits / 32; of byte (t, g, s, r, c), bits
                `bits * j` and up are the code of row 64 t + r and of column
                g * group + s * 32 / bits + 4 j + c; multipliers uint8[T, G, 64]
    binary      planes uint8[T, G, q, 4, group / 32, 16, 4]; of byte (t, g, i, r, s, l, c), bit
                b < 4 is the sign of row 64 t + 16 r + l and column g * group + 32 s + 4 c + b,
                bit 4 + b that of the column 16 further; multipliers uint8[T, G, q, 64]
    integers    int8[T, ceil(K / 4), 64, 4]; (t, s, r, c) is row 64 t + r and column 4 s + c, of
                `Int8MatMul` and `RoutedMoE`
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from addax.errors import InputError
from addax.ir._numbers.binary import BinaryCodes
from addax.ir._numbers.codebook import Codebook, CodebookCodes
from addax.ir._numbers.multipliers import MOST_BINARY, Multipliers

Bytes = npt.NDArray[np.uint8]

TILE = 64
_LARGEST_GROUP = 128
_SCALES_COST = 8  # columns whose codes take as many bytes as a group's multipliers
_STEP = 32


@dataclass(frozen=True)
class PackedCodebook:
    """The constants of a `CodebookMatMul`: codes, table int8[2^bits], multipliers, scale[N]."""

    codes: Bytes
    table: npt.NDArray[np.int8]
    multipliers: Bytes
    scale: npt.NDArray[np.float32]
    bits: int
    group: int

    @property
    def nbytes(self) -> int:
        """Bytes of all constants."""
        return self.codes.nbytes + self.table.nbytes + self.multipliers.nbytes + self.scale.nbytes


@dataclass(frozen=True)
class PackedBinary:
    """The constants of a `BinaryMatMul`: planes of signs, multipliers, scale[N]."""

    planes: Bytes
    multipliers: Bytes
    scale: npt.NDArray[np.float32]
    group: int

    @property
    def nbytes(self) -> int:
        """Bytes of all constants."""
        return self.planes.nbytes + self.multipliers.nbytes + self.scale.nbytes


def group_for(columns: int) -> int:
    """Columns that share scales in a packed layout: a multiple of 32, at most 128.

    The one whose padded codes and multipliers take the fewest bytes at three bits, the larger one
    of equals: 128 where it divides K, 96 for 172 or 192 columns, 64 for 320.

    Raises:
        InputError: There is no column.
    """
    if columns < 1:
        raise InputError(f"expected at least one column, got {columns}")
    sizes = range(_LARGEST_GROUP, 0, -_STEP)
    return min(sizes, key=lambda size: -(-columns // size) * (size + _SCALES_COST))


def pack_codebook(made: CodebookCodes) -> PackedCodebook:
    """The packed layout of codes into a table.

    Raises:
        InputError: The scales have no multipliers (`CodebookCodes.factorized` makes them), or
            the group is no multiple of 32 up to 128.
    """
    multipliers = _checked(made.multipliers, made.group)
    rows, columns = made.codes.shape
    bits, group = made.book.bits, made.group
    fields = 8 // bits
    filled = _filled(made.codes, rows, columns, group)
    # [tile, row, group, step, field, column of 4]
    parts = filled.reshape(-1, TILE, filled.shape[1] // group, group * bits // 32, fields, 4)
    shifts = (bits * np.arange(fields, dtype=np.uint8)).reshape(-1, 1)
    packed = np.bitwise_or.reduce(parts << shifts, axis=4).transpose(0, 2, 3, 1, 4)
    return PackedCodebook(
        np.ascontiguousarray(packed),
        np.array(made.book.table, np.int8),
        _tiled(multipliers.integers[..., None])[:, :, 0],
        multipliers.scale.astype(np.float32),
        bits,
        group,
    )


def unpack_codebook(packed: PackedCodebook, columns: int, name: str = "table") -> CodebookCodes:
    """The codes of a packed layout of K columns; the inverse of `pack_codebook`."""
    fields = 8 // packed.bits
    shifts = (packed.bits * np.arange(fields, dtype=np.uint8)).reshape(-1, 1)
    mask = np.uint8((1 << packed.bits) - 1)
    # [tile, row, group, step, field, column of 4]
    parts = (packed.codes.transpose(0, 3, 1, 2, 4)[..., None, :] >> shifts) & mask
    rows = packed.scale.size
    codes = parts.reshape(packed.codes.shape[0] * TILE, -1)[:rows, :columns].copy()
    integers = _untiled(packed.multipliers[:, :, None], rows)[..., 0]
    multipliers = Multipliers(packed.scale.astype(np.float64), integers)
    book = Codebook(name, tuple(int(v) for v in packed.table))
    return CodebookCodes(book, codes, multipliers.values, packed.group, multipliers)


def pack_binary(made: BinaryCodes) -> PackedBinary:
    """The packed layout of binary codes.

    Raises:
        InputError: The scales have no multipliers (`BinaryCodes.factorized` makes them), those of
            a group add up to more than 127, or the group is no multiple of 32 up to 128.
    """
    multipliers = _checked(made.multipliers, made.group)
    most = int(multipliers.integers.sum(axis=2, dtype=np.int64).max())
    if most > MOST_BINARY:
        raise InputError(
            f"expected multipliers of a group that add up to at most {MOST_BINARY}, got {most}"
        )
    rows, columns, planes = made.signs.shape
    group = made.group
    filled = _filled(made.signs.reshape(rows, -1), rows, columns, group, planes)
    # [tile, row of 4, row of 16, group, step, half, column of 4, bit, plane]
    parts = filled.reshape(
        -1, 4, 16, filled.shape[1] // (group * planes), group // 32, 2, 4, 4, planes
    )
    shifts = (4 * np.arange(2)[:, None, None] + np.arange(4)[:, None]).astype(np.uint8)
    shifts = shifts.reshape(2, 1, 4, 1)
    packed = np.bitwise_or.reduce(parts.astype(np.uint8) << shifts, axis=(5, 7))
    # [tile, row of 4, row of 16, group, step, column of 4, plane]
    return PackedBinary(
        np.ascontiguousarray(packed.transpose(0, 3, 6, 1, 4, 2, 5)),
        _tiled(multipliers.integers),
        multipliers.scale.astype(np.float32),
        group,
    )


def unpack_binary(packed: PackedBinary, columns: int) -> BinaryCodes:
    """The codes of a packed layout of K columns; the inverse of `pack_binary`."""
    tiles, groups, planes = packed.planes.shape[:3]
    shifts = (4 * np.arange(2)[:, None, None] + np.arange(4)).astype(np.uint8)  # [half, 1, bit]
    # [tile, row of 4, row of 16, group, step, column of 4, plane]
    parts = packed.planes.transpose(0, 3, 5, 1, 4, 6, 2)
    bits = (parts[..., None, :, None, :] >> shifts[..., None]) & 1
    # [tile, row of 4, row of 16, group, step, half, column of 4, bit, plane]
    signs = bits.reshape(tiles * TILE, groups * packed.group, planes).astype(bool)
    rows = packed.scale.size
    integers = _untiled(packed.multipliers, rows)
    multipliers = Multipliers(packed.scale.astype(np.float64), integers)
    kept = signs[:rows, :columns].copy()
    return BinaryCodes(kept, multipliers.values, packed.group, multipliers)


def pack_integers(weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """weights[N, K] as [T, ceil(K / 4), 64, 4]."""
    rows, columns = weights.shape
    filled = np.zeros((-(-rows // TILE) * TILE, -(-columns // 4) * 4), np.int8)
    filled[:rows, :columns] = weights
    return np.ascontiguousarray(filled.reshape(-1, TILE, filled.shape[1] // 4, 4).swapaxes(1, 2))


def _checked(multipliers: Multipliers | None, group: int) -> Multipliers:
    if multipliers is None:
        raise InputError(
            "expected scales that are whole multiples of one float a row, got real ones: "
            "they have no packed layout; factorize them first"
        )
    if group % _STEP or not 0 < group <= _LARGEST_GROUP:
        raise InputError(f"expected groups of 32, 64, 96 or 128 columns in a layout, got {group}")
    return multipliers


def _filled(
    codes: npt.NDArray[np.generic], rows: int, columns: int, group: int, planes: int = 1
) -> Bytes:
    tiles, groups = -(-rows // TILE), -(-columns // group)
    filled = np.zeros((tiles * TILE, groups * group * planes), np.uint8)
    filled[:rows, : columns * planes] = codes
    return filled


def _tiled(integers: Bytes) -> Bytes:
    """[N, G, q] as [T, G, q, 64]."""
    rows, groups, planes = integers.shape
    filled = np.zeros((-(-rows // TILE) * TILE, groups, planes), np.uint8)
    filled[:rows] = integers
    return np.ascontiguousarray(filled.reshape(-1, TILE, groups, planes).transpose(0, 2, 3, 1))


def _untiled(tiled: Bytes, rows: int) -> Bytes:
    """[T, G, q, 64] as [N, G, q]."""
    tiles, groups, planes, _ = tiled.shape
    return tiled.transpose(0, 3, 1, 2).reshape(tiles * TILE, groups, planes)[:rows].copy()
