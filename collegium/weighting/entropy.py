"""Entropy weighting (EBKD): a teacher with lower entropy gets a larger weight.

Kwon, Na, Lee, Kim, Adaptive knowledge distillation based on entropy, ICASSP 2020, 7409-7413. No
official code; the form is that of the CA-MKD repository, divided by T - 1 so that it sums to 1.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from collegium.types import StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting, complement


def entropy_weights(
    logits_BTC: Float[Tensor, "B T C"], known_BT: Bool[Tensor, "B T"] | None = None
) -> Float[Tensor, "B T"]:
    """(1 - H_t / sum of H) / (T - 1), with the entropy H at temperature 1; one teacher gets 1.

    With three teachers no weight exceeds 1/2. Where every entropy is 0, all get 1/T. Where some
    teachers do not know the example's class (`known_BT`), this holds among those that do.

    >>> import torch
    >>> certain, uncertain = [100.0, 0.0], [0.0, 0.0]
    >>> entropy_weights(torch.tensor([[certain, uncertain, uncertain]])).tolist()
    [[0.5, 0.25, 0.25]]
    """
    log_p_BTC = torch.log_softmax(logits_BTC, dim=-1)
    entropy_BT = -(log_p_BTC.exp() * log_p_BTC).sum(dim=-1)
    if known_BT is not None:
        entropy_BT = torch.where(known_BT, entropy_BT, 0)
    total_B1 = entropy_BT.sum(dim=1, keepdim=True)
    tiny = torch.finfo(entropy_BT.dtype).tiny
    share_BT = entropy_BT / total_B1.clamp_min(tiny)
    teachers = entropy_BT.shape[1] if known_BT is None else known_BT.sum(dim=1, keepdim=True)
    return complement(torch.where(total_B1 > tiny, share_BT, 1 / teachers), known_BT)


class EntropyWeighting(AbstractWeighting):
    """`entropy_weights` of the teachers' logits; it reads neither student nor label."""

    slug = "entropy"

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """Weights by entropy."""
        return entropy_weights(teachers.logits_BTC, teachers.known_mask(labels_B))
