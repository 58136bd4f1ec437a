"""What `convert` shall make of the parts of a network."""

from dataclasses import dataclass

from addax.errors import OptionError
from addax.frontend.layers.channel_idle import NORMS
from addax.frontend.layers.joining import at_least_one, share

__all__ = ["BinaryAttention", "Branches", "IdleChannels", "LowRank", "Mixture", "Part", "Shifts"]

STARTS = ("split", "extra")


@dataclass(frozen=True)
class Branches:
    """Parallel branches in feed-forward and self-attention parts; the function is kept.

    Args:
        count: branches of each part.
        start: "split": every branch gets its share of the weights and a random part of its own, the
            parts summing to zero, and the branches are joined (joining = 1); for a network that
            shall stay what it is while it is tuned. "extra": the first branch has the weights, the
            others begin with output weights of zero, and nothing is joined (joining = 0); for
            `JoiningSchedule`, which raises it.
        spread: for "split", the size of the random parts over that of the weights.
        seed: of the random weights.
    """

    count: int
    start: str = "extra"
    spread: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one("count", self.count)
        if self.start not in STARTS:
            raise OptionError(
                f"expected start to be one of {', '.join(STARTS)}; got {self.start!r}"
            )


@dataclass(frozen=True)
class IdleChannels:
    """Idle channels in feed-forward parts; for a ratio above zero, another function to be tuned.

    The channels with the largest weights stay active: |row of W1| times |column of W2|.

    Args:
        ratio: share of the hidden channels that skip the activation.
        norm: "batch" puts batch norms around the part as RePaViT does, which change nothing until
            they are trained; "none" leaves them out.
    """

    ratio: float
    norm: str = "batch"

    def __post_init__(self) -> None:
        share("ratio", self.ratio)
        if self.norm not in ("batch", "none"):
            hint = "; the network's own LayerNorm stays in place" if self.norm in NORMS else ""
            raise OptionError(f"expected norm to be batch or none{hint}; got {self.norm!r}")


@dataclass(frozen=True)
class LowRank:
    """Trained corrections of low rank on frozen linear maps; the function is kept.

    Args:
        rank: rank of each correction.
        alpha: numerator of its factor; the rank by default.
        dropout: share of the input that training hides from it.
        seed: of the random weights.
    """

    rank: int
    alpha: float | None = None
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one("rank", self.rank)
        share("dropout", self.dropout)


@dataclass(frozen=True)
class BinaryAttention:
    """`BinaryLinearAttention` in place of softmax attention: another function, to be tuned.

    The first stage of ShiftAddViT; its weights are those of the softmax attention.

    Args:
        taps: length of the filters along the tokens, odd; 0 for none. They begin as zero.
        hashing: bits of the kernel hash; None for the signs of queries and keys.
        binary: False leaves queries and keys real, as a step in between.
    """

    taps: int = 9
    hashing: int | None = None
    binary: bool = True


@dataclass(frozen=True)
class Shifts:
    """`ShiftLinear` in place of linear maps, the nearest one: another function, to be tuned.

    Args:
        kind: "PS" or "Q", how it is trained.
        levels: number of powers of two.
        scaled: whether each row has a scale.
    """

    kind: str = "PS"
    levels: int = 7
    scaled: bool = True


@dataclass(frozen=True)
class Mixture:
    """Two experts in place of feed-forward parts and linear maps: another function, to be tuned.

    The second stage of ShiftAddViT. The Mult expert has the weights, the Shift expert the nearest
    powers of two; the router is drawn at random.

    Args:
        latencies: of the Mult and the Shift expert, in any unit; see `expert_latencies`.
        kind: "PS" or "Q", how the Shift expert is trained.
        levels: number of powers of two.
        seed: of the routers.
    """

    latencies: tuple[float, float] = (1.0, 1.0)
    kind: str = "PS"
    levels: int = 7
    seed: int = 0


Part = Branches | IdleChannels | LowRank | BinaryAttention | Shifts | Mixture
