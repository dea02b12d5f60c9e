"""VGG with batch normalisation for small images (Simonyan and Zisserman, ICLR 2015).

The form of RepDistiller: three poolings instead of five, one linear layer instead of three.
"""

from torch import nn

from collegium.models.zoo.cifar.parts import GlobalAveragePool, network

Depths = tuple[int, int, int, int, int]
"""Convolutions in each of the five blocks."""


def vgg_block(depth: int, inputs: int, outputs: int) -> nn.Sequential:
    """Chain 3x3 convolutions, each with bias, batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for channels in [inputs] + [outputs] * (depth - 1):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def vgg(depths: Depths, classes: int) -> nn.Module:
    """VGG of depth sum(depths) + 3 in the paper's count (Simonyan and Zisserman, ICLR 2015)."""
    return network(
        block0=vgg_block(depths[0], 3, 64),
        pool0=nn.MaxPool2d(2),
        block1=vgg_block(depths[1], 64, 128),
        pool1=nn.MaxPool2d(2),
        block2=vgg_block(depths[2], 128, 256),
        pool2=nn.MaxPool2d(2),
        block3=vgg_block(depths[3], 256, 512),
        block4=vgg_block(depths[4], 512, 512),
        pool4=GlobalAveragePool(),
        classifier=nn.Linear(512, classes),
    )
