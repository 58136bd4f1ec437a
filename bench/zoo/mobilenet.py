"""MobileNetV1 at a quarter of its width, with batch norms unfolded, on the ImageNet sample.

Source: Howard et al., "MobileNets", 2017 (arXiv 1704.04861).
"""

import safetensors.torch
from torch import Tensor, nn
from torch.export import Dim

from bench.zoo._entry import Entry, Sanity
from bench.zoo._folder import folder, needs
from bench.zoo._images import IMAGENET, classes, imagenet, top1

WEIGHTS = "models/mobilenetv1_025_imagenet_bn.safetensors"


def convolution(inputs: int, outputs: int, size: int, stride: int, groups: int) -> list[nn.Module]:
    """A convolution without bias, its batch norm, and ReLU."""
    return [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution of each channel alone, then a 1 x 1 convolution across them."""
    depthwise = convolution(inputs, inputs, 3, stride, groups=inputs)
    return nn.Sequential(*depthwise, *convolution(inputs, outputs, 1, 1, groups=1))


class MobileNet(nn.Module):
    """Classifies images x[B, 3, H, W] into logits [B, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            nn.Sequential(*convolution(3, 8, 3, 2, groups=1)),
            separable(8, 16),
            separable(16, 32, stride=2),
            separable(32, 32),
            separable(32, 64, stride=2),
            separable(64, 64),
        )
        self.stage2 = nn.Sequential(
            separable(64, 128, stride=2), *(separable(128, 128) for _ in range(5))
        )
        self.stage3 = nn.Sequential(separable(128, 256, stride=2), separable(256, 256))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(256, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images x[B, 3, H, W]."""
        features = self.stage3(self.stage2(self.stage1(x)))
        logits: Tensor = self.fc(self.pool(features).flatten(1))
        return logits


def mobilenet() -> MobileNet:
    """The trained network."""
    model = MobileNet()
    model.load_state_dict(safetensors.torch.load_file(folder() / WEIGHTS))
    return model.eval()


ENTRIES = (
    Entry(
        name="mobilenet-v1-025",
        build=mobilenet,
        data=imagenet,
        dynamic_shapes=({0: Dim("batch")},),
        decide=classes,
        score=top1,
        sanity=Sanity("top1", 50.0, tolerance=0.2),
        missing=needs(WEIGHTS, IMAGENET),
    ),
)
