"""DenseNet (Huang et al., Densely connected convolutional networks, CVPR 2017)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.models.zoo.cifar.parts import GlobalAveragePool, conv, network


class DenseLayer(nn.Module):
    """Adds `growth` channels, computed from all channels so far, to them (paper: DenseNet-B)."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        bottleneck = 4 * growth
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = conv(inputs, bottleneck, 1)
        self.norm2 = nn.BatchNorm2d(bottleneck)
        self.relu2 = nn.ReLU()
        self.conv2 = conv(bottleneck, growth)

    def forward(self, x_BDHW: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B _ H W"]:
        """Return x with the new channels behind its own."""
        hidden_BDHW = self.conv1(self.relu1(self.norm1(x_BDHW)))
        new_BDHW = self.conv2(self.relu2(self.norm2(hidden_BDHW)))
        return torch.cat((x_BDHW, new_BDHW), 1)


def dense_stage(layers: int, inputs: int, growth: int) -> nn.Sequential:
    """Chain dense layers; norm and ReLU end the stage, so that its output is an activated map."""
    chain = [DenseLayer(inputs + i * growth, growth) for i in range(layers)]
    return nn.Sequential(*chain, nn.BatchNorm2d(inputs + layers * growth), nn.ReLU())


def transition(inputs: int) -> nn.Sequential:
    """Halve size and channels.

    The paper convolves, then averages. A 1x1 convolution and an average over positions commute,
    and this order costs a quarter.
    """
    return nn.Sequential(nn.AvgPool2d(2), conv(inputs, inputs // 2, 1))


def densenet(depths: Sequence[int], growth: int, image_channels: int, classes: int) -> nn.Module:
    """DenseNet-BC for small images: 3x3 stem of stride 1, no max pooling (Huang et al., 2017).

    `depths` are the layers of each stage; stages are `dense1`, `dense2`, ... from shallow to deep.
    """
    width = 2 * growth
    stages: dict[str, nn.Module] = {"conv1": conv(image_channels, width)}
    for number, depth in enumerate(depths, start=1):
        if number > 1:
            stages[f"transition{number - 1}"] = transition(width)
            width //= 2
        stages[f"dense{number}"] = dense_stage(depth, width, growth)
        width += depth * growth
    return network(**stages, pool=GlobalAveragePool(), linear=nn.Linear(width, classes))
