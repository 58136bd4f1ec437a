"""Number formats for weights that need no multiplier, or few bits: encode, decode, error.

Every format stores w[N, K] as small codes and scales, one for each row and group of columns:

    power-of-two       w ~ s sum_j sign_j 2^e_j                    `PowerOfTwo`
    codebook           w ~ s table[code], 16 or 4 entries of int8   `Codebook`
    binary codes       w ~ sum_i alpha_i b_i, b_i in {-1, +1}       `BinaryCodes`

Source      DeepShift (1905.13298) for powers of two, LUT-GEMM (2206.09557) and ShiftAddLLM
            (2406.05981) for binary codes and for scales as sums of powers of two (APoT)

Packed layouts hold scales as whole multipliers of one float for each row (`Multipliers`).
All arithmetic is float64 and vectorized over rows; nothing here knows about graphs.
"""

from addax.ir._numbers.binary import BinaryCodes, binary_codes, nearest_levels
from addax.ir._numbers.codebook import (
    POWERS_OF_TWO_4,
    UNIFORM_2,
    UNIFORM_4,
    Codebook,
    CodebookCodes,
    encode_codebook,
    fit_codebook,
)
from addax.ir._numbers.groups import relative_error
from addax.ir._numbers.multipliers import (
    MOST_BINARY,
    MOST_CODEBOOK,
    SCALE_SETS,
    Multipliers,
    allowed_multipliers,
    factorize,
    round_to_allowed,
)
from addax.ir._numbers.packing import (
    PackedBinary,
    PackedCodebook,
    group_for,
    pack_binary,
    pack_codebook,
    pack_integers,
    unpack_binary,
    unpack_codebook,
)
from addax.ir._numbers.powers import as_powers_of_two, power_of_two, sum_of_powers

__all__ = [
    "MOST_BINARY",
    "MOST_CODEBOOK",
    "POWERS_OF_TWO_4",
    "SCALE_SETS",
    "UNIFORM_2",
    "UNIFORM_4",
    "BinaryCodes",
    "Codebook",
    "CodebookCodes",
    "Multipliers",
    "PackedBinary",
    "PackedCodebook",
    "allowed_multipliers",
    "as_powers_of_two",
    "binary_codes",
    "encode_codebook",
    "factorize",
    "fit_codebook",
    "group_for",
    "nearest_levels",
    "pack_binary",
    "pack_codebook",
    "pack_integers",
    "power_of_two",
    "relative_error",
    "round_to_allowed",
    "sum_of_powers",
    "unpack_binary",
    "unpack_codebook",
]
