"""Losses on hidden layers: a student's map against a teacher's."""

import torch
from jaxtyping import Float
from torch import Tensor


def unit_channels(
    map_BDHW: Float[Tensor, "B D H W"], epsilon: float = 1e-12
) -> Float[Tensor, "B D H W"]:
    """Scale the channel vector at every position to length 1 (zero stays zero).

    Args:
        map_BDHW: a feature map.
        epsilon: the smallest length divided by; it bounds the gradient at a zero vector.
    """
    length_B1HW = torch.linalg.vector_norm(map_BDHW, dim=1, keepdim=True)
    return map_BDHW / length_B1HW.clamp_min(epsilon)


def hint(
    regressed_BDHW: Float[Tensor, "B D H W"], target_BDHW: Float[Tensor, "B D #H #W"]
) -> Float[Tensor, " B"]:
    """Mean squared error over channels and positions (FitNets, Romero et al. 2015, eq. 3).

    No factor 1/2. A target of 1x1 is compared with every position.

    Args:
        regressed_BDHW: the student's map after its regressor.
        target_BDHW: the teacher's map; give it without gradient.
    """
    return (regressed_BDHW - target_BDHW).square().mean(dim=(1, 2, 3))
