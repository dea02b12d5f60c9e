"""Tiny networks for 8x8 grey images, by name: quick trials, demonstrations, tests.

Each takes float images (B, 1, H, W), H and W at least 8, and returns logits (B, C). The
convolutional ones have three groups at full, half and a quarter of the size, each of which ends
with ReLU: `layer1`, `layer2`, `layer3` (`dense1` to `dense3` in `dense`). `cnn` and `mlp` are meant
as students, the others as teachers.

>>> {name: sum(p.numel() for p in SMALL_MODELS[name](10).parameters()) for name in ("mlp", "cnn")}
{'mlp': 2410, 'cnn': 1702}
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from collegium.models.architectures import BuilderFamily
from collegium.models.zoo.cifar.densenet import densenet
from collegium.models.zoo.cifar.parts import GlobalAveragePool, conv, network
from collegium.models.zoo.cifar.resnet import projected, resnet

Widths = tuple[int, int, int]
"""Channels of the three groups."""


def mlp(hidden: int, classes: int) -> nn.Module:
    """Perceptron with one hidden layer on the image averaged to 8x8 (Rumelhart et al., 1986)."""
    return network(
        pool=nn.AdaptiveAvgPool2d(8),
        flatten=nn.Flatten(),
        layer1=nn.Sequential(nn.Linear(64, hidden), nn.ReLU()),
        linear=nn.Linear(hidden, classes),
    )


def cnn(widths: Widths, norm: Callable[[int], nn.Module], classes: int) -> nn.Module:
    """Three 3x3 convolutions, each with `norm` and ReLU (after LeCun et al., 1998)."""

    def group(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(conv(inputs, outputs, stride=stride), norm(outputs), nn.ReLU())

    first, second, third = widths
    return network(
        layer1=group(1, first, 1),
        layer2=group(first, second, 2),
        layer3=group(second, third, 2),
        pool=GlobalAveragePool(),
        linear=nn.Linear(third, classes),
    )


_NARROW, _WIDE = (4, 8, 16), (16, 32, 64)

SMALL_MODELS: Mapping[str, Callable[[int], nn.Module]] = {
    "mlp": partial(mlp, 32),
    "mlp-wide": partial(mlp, 512),
    "cnn": partial(cnn, _NARROW, nn.BatchNorm2d),
    "cnn-wide": partial(cnn, _WIDE, nn.BatchNorm2d),
    # Normalises each example alone: several processes compute the same as one.
    "cnn-gn": partial(cnn, _NARROW, partial(nn.GroupNorm, 2)),
    # ResNet-8 with projection shortcuts (He et al., CVPR 2016).
    "resnet": partial(resnet, 1, (16, *_WIDE), projected, "linear", image_channels=1),
    # DenseNet-BC of three stages with two layers each (Huang et al., CVPR 2017).
    "dense": partial(densenet, (2, 2, 2), 12, 1),
}
"""Builders by name: `SMALL_MODELS["cnn"](classes)` is a new network."""


class SmallFamily(BuilderFamily):
    """Tiny networks for 8x8 grey images: `small:NAME`."""

    slug = "small"
    builders = SMALL_MODELS
    channels = 1
