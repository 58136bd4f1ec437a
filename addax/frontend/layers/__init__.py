"""Trainable layers that `addax.optimize` folds into smaller ones of the same function.

Modules of torch, imported only by whoever asks for them: `import addax` does not load torch.
"""

from addax.frontend.layers.channel_idle import ChannelIdleFeedForward, LastAxisBatchNorm
from addax.frontend.layers.joining import JoinedBranches, JoiningSchedule, set_joining
from addax.frontend.layers.parallel_attention import ParallelAttention
from addax.frontend.layers.parallel_feed_forward import ParallelFeedForward

__all__ = [
    "ChannelIdleFeedForward",
    "JoinedBranches",
    "JoiningSchedule",
    "LastAxisBatchNorm",
    "ParallelAttention",
    "ParallelFeedForward",
    "set_joining",
]
