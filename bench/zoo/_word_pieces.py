"""The tokenizer of uncased BERT: words and punctuation, spelt by the longest known pieces.

Source: Devlin et al., 2018 (arXiv 1810.04805), and Wu et al., 2016 (arXiv 1609.08144), section 4.1.
"""

import unicodedata
from collections.abc import Sequence

# A longer word is unknown as a whole.
LONGEST_WORD = 100
# The blocks of CJK ideographs, whose every character is a word.
IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _alone(character: str) -> bool:
    """Whether a character is a word: punctuation, an ASCII symbol, an ideograph."""
    code = ord(character)
    symbol = code < 128 and character.isprintable() and not character.isalnum()
    punctuation = unicodedata.category(character).startswith("P")
    return symbol or punctuation or any(low <= code <= high for low, high in IDEOGRAPHS)


def words(text: str) -> list[str]:
    """Lower-case words without accents, and punctuation marks."""
    spaced = []
    for character in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(character)
        if character.isspace() or category == "Zs":
            spaced.append(" ")
        elif category == "Mn" or category.startswith("C") or character == "\ufffd":
            continue
        else:
            spaced.append(f" {character} " if _alone(character) else character)
    return "".join(spaced).split()


class WordPieces:
    """Text to tokens.

    Args:
        vocabulary: all pieces, in order of their tokens; `##` marks what continues a word.
        limit: tokens of a text, the two at its ends included.
    """

    def __init__(self, vocabulary: Sequence[str], limit: int) -> None:
        self.index = {piece: token for token, piece in enumerate(vocabulary)}
        self.limit = limit

    def encode(self, text: str) -> list[int]:
        """`[CLS]`, the pieces of each word, `[SEP]`."""
        inner = [token for word in words(text) for token in self._pieces(word)]
        return [self.index["[CLS]"], *inner[: self.limit - 2], self.index["[SEP]"]]

    def _pieces(self, word: str) -> list[int]:
        """The longest known piece at the front, then of the rest; one unknown makes all so."""
        found: list[int] = []
        start = 0 if len(word) <= LONGEST_WORD else -1
        while 0 <= start < len(word):
            start, token = self._longest(word, start)
            found.append(token)
        return found if start >= 0 else [self.index["[UNK]"]]

    def _longest(self, word: str, start: int) -> tuple[int, int]:
        """Where the longest piece from `start` ends, and its token; (-1, -1) if there is none."""
        mark = "##" if start else ""
        for end in range(len(word), start, -1):
            token = self.index.get(mark + word[start:end])
            if token is not None:
                return end, token
        return -1, -1
