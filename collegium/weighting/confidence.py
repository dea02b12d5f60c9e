"""Confidence weighting (CA-MKD): weights from each teacher's cross entropy with the label.

Zhang, Chen, Wang, Confidence-aware multi-teacher knowledge distillation, ICASSP 2022,
arXiv 2201.00007, equations 2 to 5.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from collegium.types import StudentOutputs, TeacherOutputs
from collegium.weighting.base import AbstractWeighting, complement, of_true_class
from collegium.weighting.masking import mask_scores


def confidence_weights(
    logits_BTC: Float[Tensor, "B T C"],
    labels_B: Int[Tensor, " B"],
    known_BT: Bool[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T"]:
    """(1 - softmax over teachers of their cross entropy) / (T - 1); one teacher gets 1.

    With three teachers no weight exceeds 1/2. A gradient flows to the logits.

    Args:
        logits_BTC: raw scores; cross entropies are taken at temperature 1.
        labels_B: true classes.
        known_BT: which teachers know each example's class; None for all.

    >>> import torch
    >>> right, wrong = [100.0, 0.0], [0.0, 100.0]
    >>> confidence_weights(torch.tensor([[right, wrong, right]]), torch.tensor([0])).tolist()
    [[0.5, 0.0, 0.5]]
    """
    log_p_BTC = torch.log_softmax(logits_BTC, dim=-1)
    errors_BT = -of_true_class(log_p_BTC, labels_B)
    return complement(torch.softmax(mask_scores(errors_BT, known_BT), dim=1), known_BT)


class ConfidenceWeighting(AbstractWeighting):
    """`confidence_weights` of the teachers' logits."""

    slug = "confidence"

    def forward(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """Weights by the label."""
        return confidence_weights(teachers.logits_BTC, labels_B, teachers.known_mask(labels_B))
