"""What the zoo's networks are made of: named stages, a few layers, one rule of initial values.

Every network is a chain of named stages. The names are module paths: what hooks record, and the
keys of its `state_dict`. No layer works in place, so a recorded map stays what it was.
"""

from collections import OrderedDict
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn


def network(**stages: nn.Module) -> nn.Sequential:
    """Chain named stages into a network with fresh initial values.

    Convolutions are drawn from torch's global generator, normal with variance 2 / fan-out
    (He et al., Delving deep into rectifiers, ICCV 2015), their biases are 0; normalisations start
    at weight 1 and bias 0; linear layers keep PyTorch's own start.
    """
    net = stage(**stages)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def stage(**modules: nn.Module) -> nn.Sequential:
    """Chain named modules."""
    return nn.Sequential(OrderedDict(modules))


def repeated(
    unit: Callable[[int, int, int], nn.Module], count: int, inputs: int, outputs: int, stride: int
) -> nn.Sequential:
    """Chain units made from inputs, outputs and stride; the first alone changes the shape."""
    first = unit(inputs, outputs, stride)
    return nn.Sequential(first, *(unit(outputs, outputs, 1) for _ in range(count - 1)))


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (divided by its stride, rounded up) and has no bias."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def conv_bn(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution and its batch normalisation."""
    return conv(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs)


class GlobalAveragePool(nn.Module):
    """The mean of each channel over all positions, whatever the size of the map."""

    def forward(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D"]:
        """Average over rows and columns."""
        return x_BDHW.mean((-2, -1))
