"""Trainable layers that `addax.optimize` folds, or runs without multiplications.

Modules of torch, imported only by whoever asks for them: `import addax` does not load torch.
"""

from addax.frontend.layers.acnet import AsymmetricBlock
from addax.frontend.layers.balance import balance_loss, expert_latencies
from addax.frontend.layers.binary_linear_attention import BinaryLinearAttention
from addax.frontend.layers.branch_affine import BranchAffine
from addax.frontend.layers.channel_idle import (
    ChannelIdleFeedForward,
    LastAxisBatchNorm,
    active_channels,
)
from addax.frontend.layers.conv_norm import ConvNorm
from addax.frontend.layers.convert import Change, Conversion, convert
from addax.frontend.layers.diverse_branch import DiverseBranchBlock, NormThenPad
from addax.frontend.layers.freezing import freeze
from addax.frontend.layers.joining import JoinedBranches, JoiningSchedule, set_joining
from addax.frontend.layers.kernel_hash import KernelHash
from addax.frontend.layers.lora import LoRALinear
from addax.frontend.layers.mixture import ExpertLinear, MixtureFeedForward, MixtureLinear
from addax.frontend.layers.mobileone import MobileOneBlock
from addax.frontend.layers.parallel_attention import ParallelAttention
from addax.frontend.layers.parallel_feed_forward import ParallelFeedForward
from addax.frontend.layers.plans import (
    BinaryAttention,
    Branches,
    IdleChannels,
    LowRank,
    Mixture,
    Shifts,
)
from addax.frontend.layers.repmixer import RepMixer
from addax.frontend.layers.repvgg import RepVGGBlock
from addax.frontend.layers.router import ArgmaxRouter, Router
from addax.frontend.layers.self_attention_call import SelfAttentionCall
from addax.frontend.layers.shift_linear import ShiftLinear

__all__ = [
    "ArgmaxRouter",
    "AsymmetricBlock",
    "BinaryAttention",
    "BinaryLinearAttention",
    "BranchAffine",
    "Branches",
    "Change",
    "ChannelIdleFeedForward",
    "ConvNorm",
    "Conversion",
    "DiverseBranchBlock",
    "ExpertLinear",
    "IdleChannels",
    "JoinedBranches",
    "JoiningSchedule",
    "KernelHash",
    "LastAxisBatchNorm",
    "LoRALinear",
    "LowRank",
    "Mixture",
    "MixtureFeedForward",
    "MixtureLinear",
    "MobileOneBlock",
    "NormThenPad",
    "ParallelAttention",
    "ParallelFeedForward",
    "RepMixer",
    "RepVGGBlock",
    "Router",
    "SelfAttentionCall",
    "ShiftLinear",
    "Shifts",
    "active_channels",
    "balance_loss",
    "convert",
    "expert_latencies",
    "freeze",
    "set_joining",
]
