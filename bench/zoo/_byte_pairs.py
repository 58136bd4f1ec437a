"""The tokenizer of llama2.c: pieces of text with scores, joined greedily, best score first."""

import struct
from pathlib import Path

UNKNOWN, BEGIN, END = 0, 1, 2
# Bytes that no piece spells stand behind the three special tokens.
FIRST_BYTE = 3


class BytePairs:
    """Text to tokens and back.

    Args:
        pieces: the bytes of each token.
        scores: how early a piece is joined: the highest first.
    """

    def __init__(self, pieces: list[bytes], scores: list[float]) -> None:
        self.pieces = pieces
        self.scores = scores
        self.index: dict[bytes, int] = {}
        for token, piece in enumerate(pieces):
            self.index.setdefault(piece, token)

    @classmethod
    def read(cls, path: Path) -> "BytePairs":
        """Read llama2.c's format: an int32, then float32 score, int32 length, bytes of each."""
        data = path.read_bytes()
        pieces, scores = [], []
        at = 4
        while at < len(data):
            score, length = struct.unpack_from("<fi", data, at)
            at += 8
            pieces.append(data[at : at + length])
            scores.append(score)
            at += length
        return cls(pieces, scores)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, the first of them BEGIN; the text gets a space in front."""
        tokens = [BEGIN]
        for character in " " + text if text else "":
            spelt = character.encode()
            if spelt in self.index:
                tokens.append(self.index[spelt])
            else:
                tokens.extend(byte + FIRST_BYTE for byte in spelt)
        while (best := self._best_pair(tokens)) is not None:
            at, joined = best
            tokens[at : at + 2] = [joined]
        return tokens

    def _best_pair(self, tokens: list[int]) -> tuple[int, int] | None:
        """Where the best two neighbours stand that make one token, and that token."""
        best: tuple[int, int] | None = None
        for at in range(len(tokens) - 1):
            joined = self.index.get(self.pieces[tokens[at]] + self.pieces[tokens[at + 1]])
            better = joined is not None and (
                best is None or self.scores[joined] > self.scores[best[1]]
            )
            if better:
                best = (at, joined)
        return best

    def decode(self, tokens: list[int]) -> str:
        """The text of tokens, without special tokens and without the space in front."""
        text = b"".join(self._bytes(token) for token in tokens if token not in (BEGIN, END))
        return text.decode(errors="replace").removeprefix(" ")

    def _bytes(self, token: int) -> bytes:
        piece = self.pieces[token]
        if piece.startswith(b"<0x") and piece.endswith(b">"):
            return bytes([int(piece[3:5], 16)])
        return piece
