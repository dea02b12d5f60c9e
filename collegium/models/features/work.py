"""How many multiplications and additions a network does."""

import math

from torch import nn

from collegium.models.features.trace import Call, watch
from collegium.types import MapShape


def multiply_adds(network: nn.Module, image_shape: MapShape) -> int:
    """Multiply-adds of a forward of one image, estimated from weights and sizes of outputs.

    Every weight of two or more axes is used once for each position of its module's output.
    Products of two activations, as in attention, are not counted.

    Args:
        network: run once on blank images in evaluation mode; left as it was.
        image_shape: (D, H, W) of an image.

    Returns:
        0 if no module's output can be read, as in TorchScript.
    """
    return sum(map(_work_of, watch(network, image_shape)[0]))


def _work_of(call: Call) -> int:
    # The module may define a method `parameters` of its own: torch keeps them in `_parameters`.
    own = vars(call.module).get("_parameters", {}).values()
    weights = [p for p in own if p is not None and p.ndim > 1]
    size = math.prod(call.sizes)
    return sum(weight.numel() * max(1, size // max(1, len(weight))) for weight in weights)
