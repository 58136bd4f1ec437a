"""What papers say that DeiT-Tiny loses, on all 50,000 images of ImageNet's validation set."""

from dataclasses import dataclass

FLOAT = 72.21  # top-1 of the float32 network, the same in all of them


@dataclass(frozen=True)
class Drop:
    """A published figure.

    method: Its name.
    bits: Of weights and activations.
    top1: Percent.
    source: Where the figure was read; "not verified": known at second hand.
    """

    method: str
    bits: str
    top1: float
    source: str

    @property
    def drop(self) -> float:
        """Points that it loses."""
        return round(FLOAT - self.top1, 2)


DROPS = (
    Drop("PTQ4ViT", "W4A4", 36.96, "table of RepQ-ViT, arXiv 2212.08254"),
    Drop("RepQ-ViT", "W4A4", 57.43, "arXiv 2212.08254"),
    Drop("GPTQ", "W4A4", 58.96, "ERQ's run, arXiv 2407.06794"),
    Drop("ERQ", "W4A4", 61.79, "the longer version of arXiv 2407.06794"),
    Drop("AdaLog, calibrated", "W4A4", 63.52, "its repository, arXiv 2407.12951"),
    Drop("RepQuant", "W4A4", 64.44, "arXiv 2402.05628, not verified"),
    Drop("APHQ-ViT", "W4A4", 66.66, "its repository, arXiv 2504.02508"),
    Drop("FIMA-Q", "W4A4", 66.84, "its repository, arXiv 2506.11543"),
    Drop("AdaLog, retrained", "W4A4", 67.14, "its repository, arXiv 2407.12951"),
    Drop("RepQ-ViT", "W6A6", 70.76, "arXiv 2212.08254"),
    Drop("AdaLog", "W6A6", 71.38, "its repository, arXiv 2407.12951"),
)
