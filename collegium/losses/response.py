"""Losses on answers: what a student says against a label or against a soft target."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def soften(logits: Float[Tensor, "*axes C"], temperature: float) -> Float[Tensor, "*axes C"]:
    """Softmax over the class axis at a temperature (Hinton et al. 2015, section 2).

    Args:
        logits: raw scores, classes last.
        temperature: > 0; 1 is the plain softmax, larger is softer.
    """
    return torch.softmax(logits / temperature, dim=-1)


def kl_divergence(
    target_BC: Float[Tensor, "B C"], logits_BC: Float[Tensor, "B C"], temperature: float
) -> Float[Tensor, " B"]:
    """KL(target || softmax(logits / temperature)), summed over classes, in nats.

    The target is a distribution already, not logits. A gradient flows to both arguments, so a
    learned mixture can be trained through it. Classes of target probability 0 add 0.

    Args:
        target_BC: probabilities, rows sum to 1.
        logits_BC: the student's raw scores.
        temperature: > 0, for the student's side only; the target comes softened.
    """
    log_q_BC = F.log_softmax(logits_BC / temperature, dim=1)
    # The clamp keeps the gradient finite where a probability underflowed to 0.
    log_p_BC = target_BC.clamp_min(torch.finfo(target_BC.dtype).tiny).log()
    return (target_BC * (log_p_BC - log_q_BC)).sum(dim=1)


def soft_target(
    target_BC: Float[Tensor, "B C"], logits_BC: Float[Tensor, "B C"], temperature: float
) -> Float[Tensor, " B"]:
    """temperature^2 * KL(target || softmax(logits / temperature)) (Hinton et al. 2015).

    The square keeps the size of the gradient independent of the temperature.

    >>> import math, torch
    >>> target = torch.tensor([[1.0, 0.0]])
    >>> round(soft_target(target, torch.zeros(1, 2), temperature=2.0).item() / math.log(2), 4)
    4.0
    """
    return temperature**2 * kl_divergence(target_BC, logits_BC, temperature)


def cross_entropy(
    logits_BC: Float[Tensor, "B C"], labels_B: Int[Tensor, " B"], temperature: float = 1.0
) -> Float[Tensor, " B"]:
    """-log softmax(logits / temperature) of the true class, in nats, unscaled."""
    return F.cross_entropy(logits_BC / temperature, labels_B, reduction="none")
