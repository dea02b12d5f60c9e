"""Wide residual networks (Zagoruyko and Komodakis, Wide residual networks, BMVC 2016).

Normalisation and ReLU come before each convolution, so `block1..3` end with a sum that no ReLU has
seen yet. The same maps after it are `block2.layer.0.relu1`, `block3.layer.0.relu1` and `relu`.
"""

from jaxtyping import Float
from torch import Tensor, nn

from collegium.models.zoo.cifar.parts import GlobalAveragePool, conv, network, repeated, stage


class PreActivationBlock(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice, plus a shortcut; a change of width is projected."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = conv(inputs, outputs, stride=stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = conv(outputs, outputs)
        self.convShortcut = None if inputs == outputs else conv(inputs, outputs, 1, stride)

    def forward(self, x_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """Return the sum of both branches, not yet activated."""
        active_BDHW = self.relu1(self.bn1(x_BDHW))
        hidden_BDHW = self.relu2(self.bn2(self.conv1(active_BDHW)))
        # The projection starts from the activated map, the identity from the raw one.
        kept_BDHW = x_BDHW if self.convShortcut is None else self.convShortcut(active_BDHW)
        return self.conv2(hidden_BDHW) + kept_BDHW


def wide_stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Chain pre-activation blocks; the first changes the shape."""
    return stage(layer=repeated(PreActivationBlock, blocks, inputs, outputs, stride))


def wide_resnet(blocks: int, widening: int, classes: int) -> nn.Module:
    """Wide ResNet of depth 6 x blocks + 4 (Zagoruyko and Komodakis, BMVC 2016)."""
    narrow, middle, wide = 16 * widening, 32 * widening, 64 * widening
    return network(
        conv1=conv(3, 16),
        block1=wide_stage(blocks, 16, narrow, 1),
        block2=wide_stage(blocks, narrow, middle, 2),
        block3=wide_stage(blocks, middle, wide, 2),
        bn1=nn.BatchNorm2d(wide),
        relu=nn.ReLU(),
        pool=GlobalAveragePool(),
        fc=nn.Linear(wide, classes),
    )
