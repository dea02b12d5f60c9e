"""Forwards over many images in blocks that fit into memory."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from collegium.audit.cost import Cost
from collegium.models.network import Network

BLOCK = 128
"""Most images at once."""
MEMORY = 512 << 20
"""Bytes that the activations of a block may take, about."""


@dataclass(frozen=True)
class Sample:
    """Images that a network is examined on.

    Attributes:
        images_BDHW: pixels in 0..1.
        labels_B: true classes.
        block: images at a time.
    """

    images_BDHW: Float[Tensor, "B D H W"]
    labels_B: Int[Tensor, " B"]
    block: int = BLOCK

    def __len__(self) -> int:
        return len(self.labels_B)

    def first(self, count: int) -> "Sample":
        """The first of them."""
        return Sample(self.images_BDHW[:count], self.labels_B[:count], self.block)


def fitting(cost: Cost) -> int:
    """How many images at once fit into the memory that may be taken; at least two."""
    return max(2, min(BLOCK, MEMORY // max(cost.view_bytes, 1)))


def in_blocks(
    network: Network, images_BDHW: Float[Tensor, "B D H W"], block: int = BLOCK
) -> Float[Tensor, "B C"]:
    """Logits of the images, without gradients.

    Blocks are of nearly equal size, and of at least two images where there are two: a layer that
    is measured anew needs them.
    """
    count = -(-len(images_BDHW) // block)
    parts = images_BDHW.tensor_split(max(1, min(count, len(images_BDHW) // 2)))
    with torch.no_grad():
        return torch.cat([network(part) for part in parts])


def right(
    network: Network,
    images_BDHW: Float[Tensor, "B D H W"],
    labels_B: Int[Tensor, " B"],
    block: int = BLOCK,
) -> Bool[Tensor, " B"]:
    """Whether a network is right on each image."""
    return in_blocks(network, images_BDHW, block).argmax(dim=1) == labels_B
