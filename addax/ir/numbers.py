"""Number formats for weights that need no multiplier, or few bits: encode, decode, error.

Every format stores w[N, K] as small codes and scales, one for each row and group of columns:

    power-of-two       w ~ s sum_j sign_j 2^e_j                    `PowerOfTwo`
    codebook           w ~ s table[code], 16 or 4 entries of int8   `Codebook`
    binary codes       w ~ sum_i alpha_i b_i, b_i in {-1, +1}       `BinaryCodes`

Source      DeepShift (1905.13298) for powers of two, LUT-GEMM (2206.09557) and ShiftAddLLM
            (2406.05981) for binary codes and for scales as sums of powers of two (APoT)

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
from addax.ir._numbers.powers import as_powers_of_two, power_of_two, sum_of_powers

__all__ = [
    "POWERS_OF_TWO_4",
    "UNIFORM_2",
    "UNIFORM_4",
    "BinaryCodes",
    "Codebook",
    "CodebookCodes",
    "as_powers_of_two",
    "binary_codes",
    "encode_codebook",
    "fit_codebook",
    "nearest_levels",
    "power_of_two",
    "relative_error",
    "sum_of_powers",
]
