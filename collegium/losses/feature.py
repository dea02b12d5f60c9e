"""Losses on hidden layers: a student's feature map against a teacher's."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from collegium.losses.derivatives import derivative
from collegium.models.features.pooling import (
    channels_last,
    common_size,
    mean_of_windows,
    mean_product,
    pooled,
    rows_of,
    windows,
)


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
    regressed_BDHW: Float[Tensor, "B ..."], target_BDHW: Float[Tensor, "B ..."]
) -> Float[Tensor, " B"]:
    """Mean squared error over channels and positions (FitNets, Romero et al. 2015, eq. 3).

    No factor 1/2. A target of 1x1 is compared with every position.

    Args:
        regressed_BDHW: the student's map after its regressor; vectors (B, D) do too.
        target_BDHW: the teacher's map; give it without gradient.
    """
    gap_BDHW = regressed_BDHW - target_BDHW
    return _MeanSquare.apply(gap_BDHW, tuple(range(1, gap_BDHW.ndim)))


class _MeanSquare(torch.autograd.Function):
    """Mean of squares over some axes; one pass over memory each way, not two and four."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dims: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(values)
        ctx.dims = dims
        count = math.prod(values.shape[dim] for dim in dims)
        return torch.linalg.vector_norm(values, dim=dims).square() / count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        count = math.prod(values.shape[dim] for dim in ctx.dims)
        for dim in ctx.dims:
            gradient = gradient.unsqueeze(dim)
        return values * (gradient * (2 / count)), None


def match_resolution(
    first_BDHW: Float[Tensor, "B _ _ _"], second_BDHW: Float[Tensor, "B _ _ _"]
) -> tuple[Float[Tensor, "B _ H W"], Float[Tensor, "B _ H W"]]:
    """Average-pool both maps to the smaller of their heights and widths."""
    size = common_size(first_BDHW, second_BDHW)
    return _pooled(first_BDHW, size), _pooled(second_BDHW, size)


def _pooled(map_BDHW: Tensor, size: tuple[int, int]) -> Tensor:
    """`pooled`, with its backward written by hand where windows do not overlap."""
    window = windows(map_BDHW, size)
    if window is None or window == (1, 1):
        return pooled(map_BDHW, size)
    pooled_BHWD: Tensor = _MeanOfWindows.apply(channels_last(map_BDHW).permute(0, 2, 3, 1), window)
    return pooled_BHWD.permute(0, 3, 1, 2)


class _MeanOfWindows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, map_BHWD: Tensor, window: tuple[int, int]) -> Tensor:
        ctx.window = window
        return mean_of_windows(map_BHWD, window)

    @staticmethod
    def backward(ctx: Any, gradient_BHWD: Tensor) -> tuple[Tensor, None]:
        rows, columns = ctx.window
        each_BDHW = (gradient_BHWD / (rows * columns)).permute(0, 3, 1, 2)
        # Repeats each entry over its window; twice as fast as copying it there.
        spread_BDHW = F.interpolate(each_BDHW, scale_factor=(rows, columns), mode="nearest-exact")
        return spread_BDHW.permute(0, 2, 3, 1), None


def attention(
    student_BDHW: Float[Tensor, "B _ _ _"],
    target_BDHW: Float[Tensor, "B _ _ _"],
    power: int | float = 2,
) -> Float[Tensor, " B"]:
    """Attention transfer (Zagoruyko, Komodakis 2017): the spatial attention of two maps.

    Each map becomes the mean over channels of |entries| to a power, normalised to length 1 over the
    positions; the loss is the mean over positions of the squared difference. The larger map is
    average-pooled to the smaller one first. Channels need not match; a map of 1x1 gives 0.

    Args:
        student_BDHW: the student's map.
        target_BDHW: the teacher's; no gradient reaches it.
        power: >= 1.
    """
    return attention_to_each(student_BDHW, [target_BDHW], power)[:, 0]


def attention_to_each(
    student_BDHW: Float[Tensor, "B _ _ _"],
    targets: Sequence[Float[Tensor, "B _ _ _"]],
    power: int | float = 2,
) -> Float[Tensor, "B T"]:
    """`attention` to each of several targets; the student's is computed once for each resolution.

    Args:
        student_BDHW: the student's map.
        targets: those of T teachers, each of channels and resolution of its own.
        power: >= 1.
    """
    sizes = [common_size(student_BDHW, target_BDHW) for target_BDHW in targets]
    own = {size: _attention_map(_pooled(student_BDHW, size), power) for size in set(sizes)}
    gaps = [
        own[size] - _attention_map(_pooled(target_BDHW.detach(), size), power)
        for size, target_BDHW in zip(sizes, targets, strict=True)
    ]
    return torch.stack([gap_BP.square().mean(dim=1) for gap_BP in gaps], dim=1)


def _attention_map(map_BDHW: Tensor, power: int | float) -> Tensor:
    if power == 2:
        strength_BHW: Tensor = _MeanSquare.apply(channels_last(map_BDHW), (1,))
    else:
        strength_BHW = map_BDHW.abs().pow(power).mean(dim=1)
    return F.normalize(strength_BHW.flatten(1), dim=1)


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
    return _DirectionHint.apply(regressed_BDHW, target_BDHW.detach(), epsilon)


class _DirectionHint(torch.autograd.Function):
    """If a second derivative may follow, the backward is that of the plain form."""

    @staticmethod
    def forward(ctx: Any, r_BDHW: Tensor, t_BDHW: Tensor, epsilon: float) -> Tensor:
        r_length_BHW = torch.linalg.vector_norm(r_BDHW, dim=1)
        t_length_BHW = torch.linalg.vector_norm(t_BDHW, dim=1)
        r_t_BHW = (r_BDHW * t_BDHW).sum(dim=1)
        # Inverse lengths; where a vector is short its inverse length is a constant.
        r_inverse_BHW = r_length_BHW.clamp_min(epsilon).reciprocal()
        t_inverse_BHW = t_length_BHW.clamp_min(epsilon).reciprocal()
        both_BHW = r_inverse_BHW * t_inverse_BHW
        unit = (r_length_BHW * r_inverse_BHW).square() + (t_length_BHW * t_inverse_BHW).square()
        gap_BHW = unit - 2 * r_t_BHW * both_BHW
        by_r_BHW = torch.where(r_length_BHW > epsilon, r_t_BHW * both_BHW, 1) * r_inverse_BHW**2
        ctx.save_for_backward(r_BDHW, t_BDHW, by_r_BHW, both_BHW)
        ctx.epsilon = epsilon
        return gap_BHW.mean(dim=(1, 2))

    @staticmethod
    def backward(ctx: Any, gradient_B: Tensor) -> tuple[Tensor, None, None]:
        r_BDHW, t_BDHW, by_r_BHW, both_BHW = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            plain_B = _plain_direction_hint(r_BDHW, t_BDHW, ctx.epsilon)
            return derivative(plain_B, r_BDHW, gradient_B), None, None
        scale_B11 = (2 / both_BHW[0].numel()) * gradient_B[:, None, None]
        by_r_BHW, by_t_BHW = by_r_BHW * scale_B11, both_BHW * -scale_B11
        out_BDHW = r_BDHW * by_r_BHW[:, None]
        return out_BDHW.addcmul_(t_BDHW, by_t_BHW[:, None]), None, None


def _plain_direction_hint(r_BDHW: Tensor, t_BDHW: Tensor, epsilon: float) -> Tensor:
    """The same loss in operations that torch can differentiate more than once."""
    r_BDHW, t_BDHW = (unit_channels(x_BDHW, epsilon) for x_BDHW in (r_BDHW, t_BDHW))
    return (r_BDHW - t_BDHW).square().sum(dim=1).mean(dim=(1, 2))


def flow(
    first_BDHW: Float[Tensor, "B _ _ _"], second_BDHW: Float[Tensor, "B _ _ _"]
) -> Float[Tensor, "B _ _"]:
    """The FSP matrix of two layers (Yim et al. 2017, eq. 1).

    Products of the channels of one map with those of the other, the mean over positions; the larger
    map is average-pooled to the smaller one first.

    Returns:
        (B, D of the first, D of the second).
    """
    first_BPD, second_BPE = map(rows_of, match_resolution(first_BDHW, second_BDHW))
    return _MeanProduct.apply(first_BPD, second_BPE)


class _MeanProduct(torch.autograd.Function):
    """Products of columns, the mean over rows; the gradients are laid out as the factors are."""

    @staticmethod
    def forward(ctx: Any, first_BPD: Tensor, second_BPE: Tensor) -> Tensor:
        ctx.save_for_backward(first_BPD, second_BPE)
        return mean_product(first_BPD, second_BPE)

    @staticmethod
    def backward(ctx: Any, gradient_BDE: Tensor) -> tuple[Tensor, Tensor]:
        first_BPD, second_BPE = ctx.saved_tensors
        gradient_BDE = gradient_BDE / first_BPD.shape[1]
        return second_BPE @ gradient_BDE.mT, first_BPD @ gradient_BDE


def flow_error(
    student_BDE: Float[Tensor, "B D E"], target_BDE: Float[Tensor, "B D E"]
) -> Float[Tensor, " B"]:
    """Squared difference of two flows, the mean over their D x E entries.

    Args:
        student_BDE: `flow` of two student layers.
        target_BDE: of two teacher layers with as many channels; no gradient reaches it.
    """
    return _MeanSquare.apply(student_BDE - target_BDE.detach(), (1, 2))
