"""Losses on hidden layers: a student's map against a teacher's."""

from typing import Any

import torch
import torch.nn.functional as F
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


def match_resolution(
    first_BDHW: Float[Tensor, "B _ _ _"], second_BDHW: Float[Tensor, "B _ _ _"]
) -> tuple[Float[Tensor, "B _ H W"], Float[Tensor, "B _ H W"]]:
    """Average-pool both maps to the smaller of their heights and widths."""
    height = min(first_BDHW.shape[2], second_BDHW.shape[2])
    width = min(first_BDHW.shape[3], second_BDHW.shape[3])
    return _pooled(first_BDHW, height, width), _pooled(second_BDHW, height, width)


def _pooled(map_BDHW: Tensor, height: int, width: int) -> Tensor:
    if map_BDHW.shape[2:] == (height, width):
        return map_BDHW
    return F.adaptive_avg_pool2d(map_BDHW, (height, width))


def attention(
    student_BDHW: Float[Tensor, "B _ _ _"],
    target_BDHW: Float[Tensor, "B _ _ _"],
    power: int = 2,
) -> Float[Tensor, " B"]:
    """Attention transfer (Zagoruyko, Komodakis 2017): where a map is strong, not in which channel.

    Each map becomes the mean over channels of its entries to a power, brought to length 1 over the
    positions; the squared difference, the mean over positions. The larger map is average-pooled to
    the smaller one first. Channels need not match; a map of 1x1 gives 0.

    Args:
        student_BDHW: the student's map.
        target_BDHW: the teacher's; no gradient reaches it.
        power: even, so that signs do not matter.
    """
    student_BDHW, target_BDHW = match_resolution(student_BDHW, target_BDHW.detach())
    gap_BP = _attention_map(student_BDHW, power) - _attention_map(target_BDHW, power)
    return gap_BP.square().mean(dim=1)


def _attention_map(map_BDHW: Tensor, power: int) -> Tensor:
    return F.normalize(map_BDHW.pow(power).mean(dim=1).flatten(1), dim=1)


def direction_hint(
    regressed_BDHW: Float[Tensor, "B D H W"],
    target_BDHW: Float[Tensor, "B D H W"],
    epsilon: float = 1e-4,
) -> Float[Tensor, " B"]:
    """Squared distance of the unit channel vectors, the mean over positions: 2 - 2 cos, in 0..4.

    The same as D * hint(unit_channels(regressed), unit_channels(target)) in a third of the passes
    over memory, with its backward written by hand.

    Args:
        regressed_BDHW: the student's map after its regressor.
        target_BDHW: the teacher's map; no gradient reaches it.
        epsilon: vectors shorter than this are divided by it, which bounds the gradient.
    """
    loss_B: Tensor = _DirectionHint.apply(regressed_BDHW, target_BDHW.detach(), epsilon)
    return loss_B


class _DirectionHint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, r_BDHW: Tensor, t_BDHW: Tensor, epsilon: float) -> Tensor:
        r_r_BHW, t_t_BHW = ((x_BDHW * x_BDHW).sum(dim=1) for x_BDHW in (r_BDHW, t_BDHW))
        r_t_BHW = (r_BDHW * t_BDHW).sum(dim=1)
        # Inverse lengths; where a vector is short its inverse length is a constant.
        r_inverse_BHW, t_inverse_BHW = (
            x_BHW.sqrt().clamp_min(epsilon).reciprocal() for x_BHW in (r_r_BHW, t_t_BHW)
        )
        both_BHW = r_inverse_BHW * t_inverse_BHW
        gap_BHW = r_r_BHW * r_inverse_BHW**2 + t_t_BHW * t_inverse_BHW**2 - 2 * r_t_BHW * both_BHW
        by_r_BHW = torch.where(r_r_BHW > epsilon**2, r_t_BHW * both_BHW, 1) * r_inverse_BHW**2
        ctx.save_for_backward(r_BDHW, t_BDHW, by_r_BHW, both_BHW)
        return gap_BHW.mean(dim=(1, 2))

    @staticmethod
    def backward(ctx: Any, gradient_B: Tensor) -> tuple[Tensor, None, None]:
        r_BDHW, t_BDHW, by_r_BHW, both_BHW = ctx.saved_tensors
        scale_B11 = (2 / both_BHW[0].numel()) * gradient_B[:, None, None]
        by_r_BHW, by_t_BHW = by_r_BHW * scale_B11, both_BHW * -scale_B11
        out_BDHW = r_BDHW * by_r_BHW[:, None]
        return out_BDHW.addcmul_(t_BDHW, by_t_BHW[:, None]), None, None


def flow(
    first_BDHW: Float[Tensor, "B _ _ _"], second_BDHW: Float[Tensor, "B _ _ _"]
) -> Float[Tensor, "B _ _"]:
    """How two layers go together (FSP, Yim et al. 2017, eq. 1): channel by channel.

    Products of the channels of one map with those of another, the mean over positions; the larger
    map is average-pooled to the smaller one first.

    Returns:
        (B, D of the first, D of the second).
    """
    first_BDHW, second_BDHW = match_resolution(first_BDHW, second_BDHW)
    positions = first_BDHW.shape[2] * first_BDHW.shape[3]
    return first_BDHW.flatten(2) @ second_BDHW.flatten(2).mT / positions


def flow_error(
    student_BDE: Float[Tensor, "B D E"], target_BDE: Float[Tensor, "B D E"]
) -> Float[Tensor, " B"]:
    """Squared difference of two flows, the mean over their D x E entries.

    Args:
        student_BDE: `flow` of two student layers.
        target_BDE: of two teacher layers with as many channels; no gradient reaches it.
    """
    return (student_BDE - target_BDE.detach()).square().mean(dim=(1, 2))
