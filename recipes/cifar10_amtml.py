"""The paper's setting on CIFAR-10: a ResNet-20 taught by three larger ResNets.

    collegium distill --data cifar10:DIR --student cifar:resnet20 \
        --teacher r32=cifar:resnet32@WEIGHTS/resnet32.safetensors \
        --teacher r44=cifar:resnet44@WEIGHTS/resnet44.safetensors \
        --teacher r56=cifar:resnet56@WEIGHTS/resnet56.safetensors \
        --epochs 30 --precision bf16 --out runs/cifar10-amtml amtml

or, from the checkout:

    python -m recipes.cifar10_amtml DIR WEIGHTS runs/cifar10-amtml

DIR is the official binary folder (or its parent). WEIGHTS holds the networks that
akamaster/pytorch_resnet_cifar10 released, as safetensors with their own normalisation in the
metadata; `collegium evaluate` gives 92.63, 93.10 and 93.39 % on the test split, as published.

Expect `amtml` near `avg_mkd`: these teachers are right on 99.96 to 99.98 % of the training images,
so these hardly show which teacher is better.
"""

import sys
from pathlib import Path

from collegium.api import execute
from collegium.config.options import Machine, Optimisation
from collegium.config.run import Run
from collegium.methods.amtml import AMTML
from collegium.methods.base import AbstractMethod

TEACHERS = {"r32": "resnet32", "r44": "resnet44", "r56": "resnet56"}


def cifar10_amtml(
    data: str, weights: str, method: AbstractMethod | None = None, epochs: int = 30
) -> Run:
    """Returns the run; another method makes a control under equal conditions.

    Args:
        data: the official binary folder, or its parent.
        weights: folder of resnet32.safetensors, resnet44.safetensors and resnet56.safetensors.
        method: by default AMTML.
        epochs: 30 shows the direction; the literature uses 200.
    """
    return Run(
        data=f"cifar10:{data}",
        student="cifar:resnet20",
        teachers={
            name: f"cifar:{network}@{Path(weights) / network}.safetensors"
            for name, network in TEACHERS.items()
        },
        method=method or AMTML(),
        optimisation=Optimisation(epochs=epochs),
        machine=Machine(precision="bf16"),
    )


def main(arguments: list[str]) -> int:
    """Execute the run with the arguments DIR WEIGHTS OUT."""
    if len(arguments) != 3:
        print("usage: python -m recipes.cifar10_amtml DIR WEIGHTS OUT", file=sys.stderr)  # noqa: T201
        return 2
    data, weights, out = arguments
    execute(cifar10_amtml(data, weights), Path(out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
