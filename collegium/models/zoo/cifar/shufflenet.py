"""ShuffleNet for small images, versions 1 and 2, in RepDistiller's form: 1x1 stem of stride 1.

Zhang et al., ShuffleNet, CVPR 2018; Ma et al., ShuffleNet V2, ECCV 2018.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.models.zoo.cifar.parts import GlobalAveragePool, conv, conv_bn, network, repeated


def shuffle(x_BDHW: Float[Tensor, "B D H W"], groups: int) -> Float[Tensor, "B D H W"]:
    """Deal the channels of `groups` equal groups out in turn: 0 1 2 3 by two becomes 0 2 1 3."""
    batch, channels, rows, columns = x_BDHW.shape
    dealt = x_BDHW.reshape(batch, groups, channels // groups, rows, columns).transpose(1, 2)
    return dealt.reshape(x_BDHW.shape)


class GroupedUnit(nn.Module):
    """Version 1: grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; then ReLU.

    With stride 1 the input is added; with stride 2 it is averaged and put beside the result.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first_groups = 3 if inputs > 24 else 1  # too few channels to group
        computed = outputs if stride == 1 else outputs - inputs
        hidden = computed // 4
        self.first_groups, self.stride = first_groups, stride
        self.conv1, self.bn1 = conv_bn(inputs, hidden, 1, groups=first_groups)
        self.conv2, self.bn2 = conv_bn(hidden, hidden, 3, stride, groups=hidden)
        self.conv3, self.bn3 = conv_bn(hidden, computed, 1, groups=3)

    def forward(self, x_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """Return x plus, or beside, what the unit computed; activated."""
        mixed_BDHW = shuffle(torch.relu(self.bn1(self.conv1(x_BDHW))), self.first_groups)
        hidden_BDHW = torch.relu(self.bn2(self.conv2(mixed_BDHW)))
        out_BDHW: Tensor = self.bn3(self.conv3(hidden_BDHW))
        if self.stride == 1:
            return torch.relu(out_BDHW + x_BDHW)
        return torch.relu(torch.cat((out_BDHW, nn.functional.avg_pool2d(x_BDHW, 3, 2, 1)), 1))


def shufflenet_v1(classes: int) -> nn.Module:
    """ShuffleNet with 3 groups, widths 240-480-960 (Zhang et al., CVPR 2018)."""
    return network(
        conv1=conv(3, 24, 1),
        bn1=nn.BatchNorm2d(24),
        relu=nn.ReLU(),
        layer1=repeated(GroupedUnit, 4, 24, 240, 2),
        layer2=repeated(GroupedUnit, 8, 240, 480, 2),
        layer3=repeated(GroupedUnit, 4, 480, 960, 2),
        pool=GlobalAveragePool(),
        linear=nn.Linear(960, classes),
    )


class SplitUnit(nn.Module):
    """Version 2, shape kept: half of the channels pass, the other half is computed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = conv_bn(half, half, 1)
        self.conv2, self.bn2 = conv_bn(half, half, groups=half)
        self.conv3, self.bn3 = conv_bn(half, half, 1)

    def forward(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """Return the kept and the new half, shuffled."""
        kept_BDHW, used_BDHW = x_BDHW.chunk(2, 1)
        hidden_BDHW = torch.relu(self.bn1(self.conv1(used_BDHW)))
        hidden_BDHW = self.bn2(self.conv2(hidden_BDHW))
        new_BDHW = torch.relu(self.bn3(self.conv3(hidden_BDHW)))
        return shuffle(torch.cat((kept_BDHW, new_BDHW), 1), 2)


class HalvingUnit(nn.Module):
    """Version 2, size halved: both halves of the output are computed from the whole input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1, self.bn1 = conv_bn(inputs, inputs, 3, 2, groups=inputs)
        self.conv2, self.bn2 = conv_bn(inputs, half, 1)
        self.conv3, self.bn3 = conv_bn(inputs, half, 1)
        self.conv4, self.bn4 = conv_bn(half, half, 3, 2, groups=half)
        self.conv5, self.bn5 = conv_bn(half, half, 1)

    def forward(self, x_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """Return both computed halves, shuffled."""
        left_BDHW = self.bn1(self.conv1(x_BDHW))
        left_BDHW = torch.relu(self.bn2(self.conv2(left_BDHW)))
        right_BDHW = torch.relu(self.bn3(self.conv3(x_BDHW)))
        right_BDHW = self.bn4(self.conv4(right_BDHW))
        right_BDHW = torch.relu(self.bn5(self.conv5(right_BDHW)))
        return shuffle(torch.cat((left_BDHW, right_BDHW), 1), 2)


def split_unit(inputs: int, outputs: int, stride: int) -> nn.Module:
    """A unit of version 2."""
    return SplitUnit(outputs) if stride == 1 else HalvingUnit(inputs, outputs)


def shufflenet_v2(classes: int) -> nn.Module:
    """ShuffleNetV2 1x, widths 116-232-464 and a last 1024 (Ma et al., ECCV 2018)."""
    return network(
        conv1=conv(3, 24, 1),
        bn1=nn.BatchNorm2d(24),
        relu1=nn.ReLU(),
        layer1=repeated(split_unit, 4, 24, 116, 2),
        layer2=repeated(split_unit, 8, 116, 232, 2),
        layer3=repeated(split_unit, 4, 232, 464, 2),
        conv2=conv(464, 1024, 1),
        bn2=nn.BatchNorm2d(1024),
        relu2=nn.ReLU(),
        pool=GlobalAveragePool(),
        linear=nn.Linear(1024, classes),
    )
