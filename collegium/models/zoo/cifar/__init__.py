"""The CIFAR networks of the field, by name.

Each takes float images (B, 3, H, W), H and W at least 32, and returns logits (B, C). `resnet8` to
`resnet110` have shortcuts without parameters (option A of the paper); a final `b` means projection
shortcuts (option B). All but option A and `densenet121` have RepDistiller's layers and keys, so
that its published checkpoints load.

>>> sorted(CIFAR_MODELS)[:3]
['densenet121', 'mobilenetv2', 'resnet110']
>>> sum(p.numel() for p in CIFAR_MODELS["resnet20"](10).parameters())
269722
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from collegium.models.architectures import BuilderFamily
from collegium.models.zoo.cifar.densenet import densenet
from collegium.models.zoo.cifar.mobilenet import mobilenet_v2
from collegium.models.zoo.cifar.resnet import padded, projected, resnet
from collegium.models.zoo.cifar.shufflenet import shufflenet_v1, shufflenet_v2
from collegium.models.zoo.cifar.vgg import vgg
from collegium.models.zoo.cifar.wide import wide_resnet

_BLOCKS = (1, 2, 3, 5, 7, 9, 18)  # residual blocks a stage: depths 8 to 110
_NARROW, _WIDE = (16, 16, 32, 64), (32, 64, 128, 256)

CIFAR_MODELS: Mapping[str, Callable[[int], nn.Module]] = {
    **{f"resnet{6 * n + 2}": partial(resnet, n, _NARROW, padded, "linear") for n in _BLOCKS},
    **{f"resnet{6 * n + 2}b": partial(resnet, n, _NARROW, projected, "fc") for n in _BLOCKS},
    "resnet8x4": partial(resnet, 1, _WIDE, projected, "fc"),
    "resnet32x4": partial(resnet, 5, _WIDE, projected, "fc"),
    **{f"wrn-{6 * n + 4}-{k}": partial(wide_resnet, n, k) for n in (2, 6) for k in (1, 2)},
    "vgg8": partial(vgg, (1, 1, 1, 1, 1)),
    "vgg11": partial(vgg, (1, 1, 2, 2, 2)),
    "vgg13": partial(vgg, (2, 2, 2, 2, 2)),
    "vgg16": partial(vgg, (2, 2, 3, 3, 3)),
    "vgg19": partial(vgg, (2, 2, 4, 4, 4)),
    # A stem for 32x32 images (Huang et al., CVPR 2017).
    "densenet121": partial(densenet, (6, 12, 24, 16), 32, 3),
    "mobilenetv2": mobilenet_v2,
    "shufflenetv1": shufflenet_v1,
    "shufflenetv2": shufflenet_v2,
}
"""Builders by name: `CIFAR_MODELS["resnet20"](classes)` is a new network."""


class CifarFamily(BuilderFamily):
    """Networks for 32x32 colour images: `cifar:NAME`."""

    slug = "cifar"
    builders = CIFAR_MODELS
    smallest = 32
