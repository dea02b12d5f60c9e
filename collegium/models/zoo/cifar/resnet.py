"""Residual networks for small images (He et al., Deep residual learning, CVPR 2016).

Two families share the field's names. Where a stage changes the shape, the shortcut either has no
parameters (option A of the paper) or is a projection (option B, as in RepDistiller).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.models.zoo.cifar.parts import GlobalAveragePool, conv, network

Shortcut = Callable[[int, int, int], nn.Module]
"""Builds the shortcut of a block from its input channels, output channels and stride."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions plus a shortcut, then ReLU: the paper's basic block.

    `downsample` brings the block's input to the shape of its output.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, downsample: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = downsample

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
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def residual_stage(
    blocks: int, inputs: int, outputs: int, stride: int, shortcut: Shortcut
) -> nn.Sequential:
    """Chain residual blocks; the first changes the shape, the last ends with ReLU."""
    first = ResidualBlock(inputs, outputs, stride, shortcut(inputs, outputs, stride))
    rest = (ResidualBlock(outputs, outputs, 1, nn.Identity()) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


def resnet_a(blocks: int, classes: int) -> nn.Module:
    """ResNet of depth 6 x blocks + 2, shortcuts without parameters (He et al., CVPR 2016)."""
    return network(
        conv1=conv(3, 16),
        bn1=nn.BatchNorm2d(16),
        relu=nn.ReLU(),
        layer1=residual_stage(blocks, 16, 16, 1, padded),
        layer2=residual_stage(blocks, 16, 32, 2, padded),
        layer3=residual_stage(blocks, 32, 64, 2, padded),
        pool=GlobalAveragePool(),
        linear=nn.Linear(64, classes),
    )


def resnet_b(blocks: int, widths: tuple[int, int, int, int], classes: int) -> nn.Module:
    """ResNet of depth 6 x blocks + 2, projection shortcuts (He et al., CVPR 2016).

    `widths` are the channels of the first convolution and of the three stages.
    """
    stem, first, second, third = widths
    return network(
        conv1=conv(3, stem),
        bn1=nn.BatchNorm2d(stem),
        relu=nn.ReLU(),
        layer1=residual_stage(blocks, stem, first, 1, projected),
        layer2=residual_stage(blocks, first, second, 2, projected),
        layer3=residual_stage(blocks, second, third, 2, projected),
        pool=GlobalAveragePool(),
        fc=nn.Linear(third, classes),
    )
