"""Residual networks for small images (He et al., Deep residual learning, CVPR 2016).

Two families share the field's names. Where a stage changes the shape, the shortcut either has no
parameters (option A of the paper) or is a projection (option B, as in RepDistiller).
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.models.zoo.cifar.parts import GlobalAveragePool, conv, conv_bn, network, repeated

Shortcut = Callable[[int, int, int], nn.Module]
"""Builds the shortcut of a block from its input channels, output channels and stride."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions plus a shortcut, then ReLU: the paper's basic block.

    `downsample`, built by `shortcut`, brings the block's input to the shape of its output.
    """

    def __init__(self, shortcut: Shortcut, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(inputs, outputs, stride=stride)
        self.conv2, self.bn2 = conv_bn(outputs, outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """Return the activated sum of both branches."""
        hidden_BDHW = torch.relu(self.bn1(self.conv1(x_BDHW)))
        return torch.relu(self.bn2(self.conv2(hidden_BDHW)) + self.downsample(x_BDHW))


class PaddedSubsampling(nn.Module):
    """Option A: every second row and column, zero channels before and after; no parameters."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.padding = (outputs - inputs) // 2

    def forward(self, x_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """Return x at half its size with more channels."""
        return nn.functional.pad(x_BDHW[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))


def padded(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Option A: the identity while the shape stays."""
    return nn.Identity() if stride == 1 else PaddedSubsampling(inputs, outputs)


def projected(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Option B: the identity while the shape stays, else a 1x1 convolution with its norm."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(*conv_bn(inputs, outputs, 1, stride))


def resnet(
    blocks: int,
    widths: tuple[int, int, int, int],
    shortcut: Shortcut,
    head: str,
    classes: int,
    image_channels: int = 3,
) -> nn.Module:
    """ResNet of depth 6 x blocks + 2 (He et al., CVPR 2016).

    `widths` are the channels of the first convolution and of the three stages; `head` is the name
    of the last layer. The first block of a stage changes the shape, the last ends with ReLU.
    """
    stem, first, second, third = widths
    block = partial(ResidualBlock, shortcut)
    stages: dict[str, nn.Module] = {
        "conv1": conv(image_channels, stem),
        "bn1": nn.BatchNorm2d(stem),
        "relu": nn.ReLU(),
        "layer1": repeated(block, blocks, stem, first, 1),
        "layer2": repeated(block, blocks, first, second, 2),
        "layer3": repeated(block, blocks, second, third, 2),
        "pool": GlobalAveragePool(),
    }
    return network(**stages, **{head: nn.Linear(third, classes)})
