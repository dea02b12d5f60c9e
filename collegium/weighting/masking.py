"""Teachers that do not know every class: who may speak, and what is left as the student has it."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def mask_and_renormalize(
    weights_BT: Float[Tensor, "B T"], known_BT: Bool[Tensor, "B T"] | None
) -> Float[Tensor, "B T"]:
    """Weights of those alone that know an example's class, brought to sum 1; 0 where nobody does.

    >>> import torch
    >>> weights_BT = torch.tensor([[0.25, 0.25, 0.5], [0.2, 0.4, 0.4]])
    >>> known_BT = torch.tensor([[True, True, False], [False, False, False]])
    >>> only_known(weights_BT, known_BT).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    if known_BT is None:
        return weights_BT
    kept_BT = torch.where(known_BT, weights_BT, 0)
    return kept_BT / kept_BT.sum(dim=1, keepdim=True).clamp_min(torch.finfo(kept_BT.dtype).tiny)


def mask_scores(
    scores_BT: Float[Tensor, "B T"], known_BT: Bool[Tensor, "B T"] | None
) -> Float[Tensor, "B T"]:
    """Scores for a softmax over those that know an example's class; unchanged where nobody does."""
    if known_BT is None:
        return scores_BT
    return scores_BT.masked_fill(~known_BT & known_BT.any(dim=1, keepdim=True), -torch.inf)


def fill_unknown(
    said_BTC: Float[Tensor, "B T C"],
    student_BC: Float[Tensor, "B C"],
    groups_TC: Int[Tensor, "T C"],
) -> Float[Tensor, "B T C"]:
    """Whole distributions of teachers that do not know or do not tell apart every class.

    What a teacher does not say is left as the student has it now: the classes it does not know keep
    the student's probabilities, those it knows share the rest; a group keeps the student's ratios.
    So under a KL divergence it moves nothing but what it knows. No gradient reaches the student.

    Args:
        said_BTC: distributions, 0 where a class is not known, groups split in any way.
        student_BC: the student's distribution, at the same temperature.
        groups_TC: what each teacher tells apart, see `TeacherOutputs`.

    >>> import torch
    >>> said, student = torch.tensor([[[0.9, 0.1, 0.0]]]), torch.tensor([[0.3, 0.3, 0.4]])
    >>> [round(p, 4) for p in complete(said, student, torch.tensor([[0, 1, -1]]))[0, 0].tolist()]
    [0.54, 0.06, 0.4]
    """
    student_BTC = student_BC.detach()[:, None].expand_as(said_BTC)
    known_TC = groups_TC >= 0
    mass_BT1 = torch.where(known_TC, student_BTC, 0).sum(dim=-1, keepdim=True)
    tiny = torch.finfo(said_BTC.dtype).tiny
    # A class that is its own group has the ratio 1 to the bit, even where it underflowed to 0.
    whole_BTC = _by_group(student_BTC + tiny, groups_TC).clamp_min(tiny)
    ratio_BTC = (student_BTC + tiny) / whole_BTC
    said_BTC = mass_BT1 * ratio_BTC * _by_group(said_BTC, groups_TC)
    return torch.where(known_TC, said_BTC, student_BTC)


def _by_group(values_BTC: Tensor, groups_TC: Tensor) -> Tensor:
    """Each class's sum over its group."""
    places_BTC = groups_TC.clamp_min(0).expand(values_BTC.shape)
    counted_BTC = torch.where(groups_TC >= 0, values_BTC, 0)
    sums_BTC = torch.zeros_like(values_BTC).scatter_add(-1, places_BTC, counted_BTC)
    return sums_BTC.gather(-1, places_BTC)
