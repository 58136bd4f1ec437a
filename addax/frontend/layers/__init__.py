"""Trainable layers that `addax.optimize` folds into smaller ones of the same function.

Modules of torch, imported only by whoever asks for them: `import addax` does not load torch.
"""

from addax.frontend.layers.acnet import AsymmetricBlock
from addax.frontend.layers.branch_affine import BranchAffine
from addax.frontend.layers.channel_idle import (
    ChannelIdleFeedForward,
    LastAxisBatchNorm,
    active_channels,
)
from addax.frontend.layers.conv_norm import ConvNorm
from addax.frontend.layers.convert import Change, Conversion, convert
from addax.frontend.layers.diverse_branch import DiverseBranchBlock, NormThenPad
from addax.frontend.layers.joining import JoinedBranches, JoiningSchedule, set_joining
from addax.frontend.layers.lora import LoRALinear
from addax.frontend.layers.mobileone import MobileOneBlock
from addax.frontend.layers.parallel_attention import ParallelAttention
from addax.frontend.layers.parallel_feed_forward import ParallelFeedForward
from addax.frontend.layers.plans import Branches, IdleChannels, LowRank
from addax.frontend.layers.repmixer import RepMixer
from addax.frontend.layers.repvgg import RepVGGBlock
from addax.frontend.layers.self_attention_call import SelfAttentionCall

__all__ = [
    "AsymmetricBlock",
    "BranchAffine",
    "Branches",
    "Change",
    "ChannelIdleFeedForward",
    "ConvNorm",
    "Conversion",
    "DiverseBranchBlock",
    "IdleChannels",
    "JoinedBranches",
    "JoiningSchedule",
    "LastAxisBatchNorm",
    "LoRALinear",
    "LowRank",
    "MobileOneBlock",
    "NormThenPad",
    "ParallelAttention",
    "ParallelFeedForward",
    "RepMixer",
    "RepVGGBlock",
    "SelfAttentionCall",
    "active_channels",
    "convert",
    "set_joining",
]
