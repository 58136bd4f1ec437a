"""Ranges of the channels of activations that come in pieces: smallest, largest, how many rows."""

import numpy as np


class ChannelRanges:
    """The smallest and largest number of each of `width` channels over rows [M, width]."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.low = np.full(width, np.inf)
        self.high = np.full(width, -np.inf)

    def add(self, rows: np.ndarray) -> None:
        """Take in rows [M, width]; NaN makes a channel's range NaN."""
        if len(rows):
            self.low = np.minimum(self.low, rows.min(0))
            self.high = np.maximum(self.high, rows.max(0))
            self.count += len(rows)

    @property
    def is_finite(self) -> bool:
        """Whether rows came, and none held NaN or infinity."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())
