"""Weights and distributions of teachers that do not know every class."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def mask_and_renormalize(
    weights_BT: Float[Tensor, "B T"], known_BT: Bool[Tensor, "B T"] | None
) -> Float[Tensor, "B T"]:
    """Zero the weights of teachers that do not know the class, and normalise the rest to sum 1.

    Where no teacher knows an example's class, its row is 0.

    >>> import torch
    >>> weights_BT = torch.tensor([[0.25, 0.25, 0.5], [0.2, 0.4, 0.4]])
    >>> known_BT = torch.tensor([[True, True, False], [False, False, False]])
    >>> mask_and_renormalize(weights_BT, known_BT).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    if known_BT is None:
        return weights_BT
    kept_BT = torch.where(known_BT, weights_BT, 0)
    return kept_BT / kept_BT.sum(dim=1, keepdim=True).clamp_min(torch.finfo(kept_BT.dtype).tiny)


def mask_scores(
    scores_BT: Float[Tensor, "B T"], known_BT: Bool[Tensor, "B T"] | None
) -> Float[Tensor, "B T"]:
    """Set the scores of teachers that do not know the class to -inf, unless no teacher does."""
    if known_BT is None:
        return scores_BT
    return scores_BT.masked_fill(~known_BT & known_BT.any(dim=1, keepdim=True), -torch.inf)


def fill_unknown(
    teachers_BTC: Float[Tensor, "B T C"],
    student_BC: Float[Tensor, "B C"],
    groups_TC: Int[Tensor, "T C"],
) -> Float[Tensor, "B T C"]:
    """Complete the distributions of teachers that do not know or distinguish every class.

    Classes that a teacher does not know keep the student's current probabilities; the classes that
    it knows share the rest. Within a group of classes it does not distinguish, the student's ratios
    are kept. So a KL divergence to the result changes only what the teacher knows. No gradient
    reaches the student.

    Args:
        teachers_BTC: distributions, 0 where a class is not known, groups split in any way.
        student_BC: the student's distribution, at the same temperature.
        groups_TC: the groups of classes each teacher distinguishes, see `TeacherOutputs`.

    >>> import torch
    >>> teacher, student = torch.tensor([[[0.9, 0.1, 0.0]]]), torch.tensor([[0.3, 0.3, 0.4]])
    >>> groups = torch.tensor([[0, 1, -1]])
    >>> [round(p, 4) for p in fill_unknown(teacher, student, groups)[0, 0].tolist()]
    [0.54, 0.06, 0.4]
    """
    student_BTC = student_BC.detach()[:, None].expand_as(teachers_BTC)
    known_TC = groups_TC >= 0
    mass_BT1 = torch.where(known_TC, student_BTC, 0).sum(dim=-1, keepdim=True)
    tiny = torch.finfo(teachers_BTC.dtype).tiny
    # A class that is its own group has the ratio 1 to the bit, even where it underflowed to 0.
    group_BTC = _by_group(student_BTC + tiny, groups_TC).clamp_min(tiny)
    ratio_BTC = (student_BTC + tiny) / group_BTC
    teachers_BTC = mass_BT1 * ratio_BTC * _by_group(teachers_BTC, groups_TC)
    return torch.where(known_TC, teachers_BTC, student_BTC)


def _by_group(values_BTC: Tensor, groups_TC: Tensor) -> Tensor:
    """Each class's sum over its group."""
    groups_BTC = groups_TC.clamp_min(0).expand(values_BTC.shape)
    known_BTC = torch.where(groups_TC >= 0, values_BTC, 0)
    sums_BTC = torch.zeros_like(values_BTC).scatter_add(-1, groups_BTC, known_BTC)
    return sums_BTC.gather(-1, groups_BTC)
