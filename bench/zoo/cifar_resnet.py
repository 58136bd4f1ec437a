"""ResNet-20 and ResNet-56 for CIFAR-10, with batch norms unfolded, on JPEGs of its test images.

Source: He et al., "Deep Residual Learning", 2015 (arXiv 1512.03385), section 4.2, option A: a
shortcut that halves the image takes every second pixel and pads the new channels with zeros.
"""

import functools

import safetensors.torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from bench.zoo._entry import Entry, Sanity
from bench.zoo._folder import folder, needs
from bench.zoo._images import CIFAR, cifar, classes, top1


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without weights."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.new_channels = outputs - inputs

    def shortcut(self, x: Tensor) -> Tensor:
        """The input at the output's size: x[B, C, H, W] -> [B, C', H / stride, W / stride]."""
        if self.stride == 1 and self.new_channels == 0:
            return x
        before = self.new_channels // 2
        after = self.new_channels - before
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, after))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x[B, C, H, W]."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    """Blocks of one image size; the first changes it."""
    first = ResidualBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(ResidualBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


class CifarResNet(nn.Module):
    """Classifies images x[B, 3, 32, 32] into logits [B, 10] in 6 * blocks + 2 layers."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, 1, blocks)
        self.layer2 = stage(16, 32, 2, blocks)
        self.layer3 = stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images x[B, 3, 32, 32]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def weights(layers: int) -> str:
    """The checkpoint's place in the data folder."""
    return f"models/cifar10_resnet{layers}_bn.safetensors"


def cifar_resnet(layers: int) -> CifarResNet:
    """The trained network of 20 or 56 layers."""
    model = CifarResNet(blocks=(layers - 2) // 6)
    model.load_state_dict(safetensors.torch.load_file(folder() / weights(layers)))
    return model.eval()


ENTRIES = tuple(
    Entry(
        name=f"cifar-resnet{layers}",
        build=functools.partial(cifar_resnet, layers),
        data=cifar,
        dynamic_shapes=({0: Dim("batch")},),
        decide=classes,
        score=top1,
        sanity=Sanity("top1", accuracy, tolerance=0.1, limit=1000),
        missing=needs(weights(layers), CIFAR),
    )
    for layers, accuracy in ((20, 80.4), (56, 82.5))
)
