"""MobileNetV2 (Sandler et al., Inverted residuals and linear bottlenecks, CVPR 2018).

RepDistiller's half-width form for small images. Bottlenecks are linear by design: no ReLU ends
`blocks.1`, `blocks.2`, `blocks.4` and `blocks.6`, the last of their resolution; one ends `conv2`.
"""

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from collegium.models.zoo.cifar.parts import GlobalAveragePool, conv_bn, network, repeated

_STAGES = (
    # expansion, channels (half of the paper's), blocks, stride
    (1, 8, 1, 1),
    (6, 12, 2, 1),  # stride 1, not the paper's 2: the images are small
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project without ReLU; a shortcut where the shape stays."""

    def __init__(self, expansion: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            *conv_bn(inputs, hidden, 1),
            nn.ReLU(),
            *conv_bn(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU(),
            *conv_bn(hidden, outputs, 1),
        )
        self.keeps_shape = stride == 1 and inputs == outputs

    def forward(self, x_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """Return the bottleneck, not activated, with x added where shapes agree."""
        out_BDHW: Tensor = self.conv(x_BDHW)
        return x_BDHW + out_BDHW if self.keeps_shape else out_BDHW


def mobilenet_v2(classes: int) -> nn.Module:
    """MobileNetV2 at half width, first stride 2, for 32x32 images (Sandler et al., CVPR 2018)."""
    width, blocks = 16, []
    for expansion, channels, depth, stride in _STAGES:
        unit = partial(InvertedResidual, expansion)
        blocks.append(repeated(unit, depth, width, channels, stride))
        width = channels
    return network(
        conv1=nn.Sequential(*conv_bn(3, 16, stride=2), nn.ReLU()),
        blocks=nn.Sequential(*blocks),
        conv2=nn.Sequential(*conv_bn(width, 1280, 1), nn.ReLU()),
        pool=GlobalAveragePool(),
        classifier=nn.Sequential(nn.Linear(1280, classes)),
    )
