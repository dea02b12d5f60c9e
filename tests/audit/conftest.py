"""Small coloured images, teachers that know them, and what can go wrong when they are loaded."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from collegium.data import ImageData, Splits
from collegium.models.network import Network, Preprocess

CLASSES = ("violet", "red", "blue", "orange", "green", "amber")
SIDE = 12
IMAGENET = Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def draw(count: int, seed: int) -> ImageData:
    """Patterns that look otherwise when colours, brightness or directions are exchanged."""
    generator = torch.Generator().manual_seed(99)
    coarse = torch.rand(len(CLASSES), 3, 4, 4, generator=generator)
    pattern_CDHW = F.interpolate(coarse, (SIDE, SIDE), mode="bilinear")
    generator.manual_seed(seed)
    labels_N = torch.arange(count) % len(CLASSES)
    noise = 0.22 * torch.randn(count, 3, SIDE, SIDE, generator=generator)
    images = ((pattern_CDHW[labels_N] + noise).clamp(0, 1) * 255).round().to(torch.uint8)
    return ImageData(images, labels_N, torch.arange(count), CLASSES, "patterns", "none")


def body(classes: int = len(CLASSES)) -> nn.Sequential:
    """A small network that takes images of any size."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, 2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def learn(
    data: ImageData,
    seed: int,
    steps: int = 60,
    preprocess: Preprocess = IMAGENET,
    known: int = len(CLASSES),
) -> Network:
    """A network trained for a moment, on the first `known` classes."""
    torch.manual_seed(seed)
    network = Network(body(), preprocess, CLASSES)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    mine = data.subset((data.labels_N < known).nonzero()[:, 0])
    images = mine.images_NDHW.float() / 255
    for _ in range(steps):
        rows = torch.randperm(len(mine))[:64]
        loss = F.cross_entropy(network(images[rows]), mine.labels_N[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="session")
def patterns() -> Splits:
    return Splits(draw(1200, 0), draw(600, 1), draw(300, 2))


@pytest.fixture(scope="session")
def trained(patterns: Splits) -> Network:
    return learn(patterns.train, 0)
