"""What the families of timm, torchvision and transformers have in common."""

import warnings
from collections.abc import Callable

from torch import nn

from collegium.models.network import INTERPOLATIONS
from collegium.models.reported import reported

SMALLEST = 32
"""Most networks halve their input five times."""


def interpolation(name: str) -> str:
    """The interpolation of that name; bicubic stands for every other filter of a library."""
    return name if name in INTERPOLATIONS else "bicubic"


def built(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    """A network that a library makes, without its warnings of names that moved or will move.

    Args:
        name: of the network, with its family, for messages.
        make: calls the library.

    Raises:
        RequestError: it fails.
    """
    with reported(f"{name} cannot be built"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()
