"""Losses on logits: of a student against a label or against a soft target.

The soft target is a distribution: teachers are softened (and mixed) before. Leading axes broadcast,
so that one student of shape (B, 1, C) is compared with T teachers (B, T, C) at once. The classes at
the end are what `--loss NAME` chooses from.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from collegium.losses.base import AbstractLogitLoss


def soften(logits: Float[Tensor, "*axes C"], temperature: float) -> Float[Tensor, "*axes C"]:
    """Softmax over the class axis at a temperature (Hinton et al. 2015, section 2).

    Args:
        logits: raw scores, classes last.
        temperature: > 0; 1 is the plain softmax, larger is softer.
    """
    return torch.softmax(logits / temperature, dim=-1)


def standardise(
    logits: Float[Tensor, "*axes C"], epsilon: float = 1e-7
) -> Float[Tensor, "*axes C"]:
    """Each row with mean 0 and standard deviation 1 over classes (Sun et al. 2024, eq. 9).

    The variance has C - 1 in its denominator; `epsilon` is added to the standard deviation, not to
    the variance. Constant rows become 0. For the soft target only, on both sides, before the
    softmax.

    Args:
        logits: raw scores, classes last, C >= 2.
        epsilon: added to the standard deviation.

    >>> import torch
    >>> [round(value, 4) for value in standardise(torch.tensor([1.0, 3.0])).tolist()]
    [-0.7071, 0.7071]
    """
    centred = logits - logits.mean(dim=-1, keepdim=True)
    variance = centred.square().sum(dim=-1, keepdim=True) / (logits.shape[-1] - 1)
    # The clamp gives a constant row the gradient 0, where that of the root is infinite.
    std = variance.clamp_min(torch.finfo(logits.dtype).tiny).sqrt()
    return centred / (epsilon + std)


def merge_classes(
    logits_BC: Float[Tensor, "B C"], groups_C: Int[Tensor, " C"], temperature: float
) -> Float[Tensor, "B G"]:
    """Merge logits into one for each group of classes that a teacher distinguishes.

    Softened, they are the probabilities of `logits_BC`, summed by group and renormalised.

    Args:
        logits_BC: raw scores of the teacher or of the student.
        groups_C: for each class the first class of its group, -1 for unknown.
        temperature: > 0, at which probabilities are summed.
    """
    firsts_G = groups_C[groups_C >= 0].unique()
    known_C = groups_C >= 0
    if len(firsts_G) == int(known_C.sum()):
        return logits_BC.index_select(-1, firsts_G)
    groups = torch.where(known_C, groups_C, len(groups_C)).expand(logits_BC.shape)
    width = (*logits_BC.shape[:-1], len(groups_C) + 1)
    largest = logits_BC.detach().new_zeros(width)
    largest = largest.scatter_reduce(-1, groups, logits_BC.detach(), "amax", include_self=False)
    powers = ((logits_BC - largest.gather(-1, groups)) / temperature).exp()
    sums = torch.zeros_like(largest).scatter_add(-1, groups, powers)
    return largest[..., firsts_G] + temperature * sums[..., firsts_G].log()


def kl_divergence(
    target: Float[Tensor, "*teachers C"], logits: Float[Tensor, "*students C"], temperature: float
) -> Float[Tensor, "*both"]:
    """KL(target || softmax(logits / temperature)), summed over classes, in nats.

    The target is a distribution already, not logits. A gradient flows to both arguments, so a
    learned mixture can be trained through it. Classes of target probability 0 add 0.

    Args:
        target: probabilities, (B, C) or (B, T, C), sum 1 over classes.
        logits: the student's raw scores, (B, C) or (B, 1, C).
        temperature: > 0, for the student's side only; the target comes softened.

    Returns:
        (B,) or (B, T).
    """
    target, logits, kind = _exact(target, logits)
    log_q = F.log_softmax(logits / temperature, dim=-1)
    divergence = (target * (_log(target, kind) - log_q)).sum(dim=-1)
    return (divergence + _rounded_away(target, kind)).to(kind)


def soft_target(
    target: Float[Tensor, "*teachers C"], logits: Float[Tensor, "*students C"], temperature: float
) -> Float[Tensor, "*both"]:
    """temperature^2 * KL(target || softmax(logits / temperature)) (Hinton et al. 2015).

    The square keeps the size of the gradient independent of the temperature. Shapes as in
    `kl_divergence`.

    >>> import math, torch
    >>> target = torch.tensor([[1.0, 0.0]])
    >>> round(soft_target(target, torch.zeros(1, 2), temperature=2.0).item() / math.log(2), 4)
    4.0
    """
    return temperature**2 * kl_divergence(target, logits, temperature)


def decoupled(
    target: Float[Tensor, "*teachers C"],
    logits: Float[Tensor, "*students C"],
    labels: Int[Tensor, "*labels"],
    temperature: float,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Float[Tensor, "*both"]:
    """Decoupled distillation (Zhao et al. 2022, eq. 7), times temperature^2.

    alpha * KL of (true class, all others) + beta * KL among the other classes. With alpha = 1 and
    beta = 1 - p(true class) it is the plain KL (eq. 6). With two classes the second part is 0.

    Args:
        target: probabilities, softened already, (B, C) or (B, T, C).
        logits: the student's raw scores, (B, C) or (B, 1, C).
        labels: true classes, (B,).
        temperature: > 0, of the student's side.
        alpha: weight of the target-class part.
        beta: weight of the other classes' part.

    Returns:
        (B,) or (B, T).
    """
    target, logits, kind = _exact(target, logits)
    log_p, log_q = _log(target, kind), F.log_softmax(logits / temperature, dim=-1)
    log_p, log_q = torch.broadcast_tensors(log_p, log_q)
    while labels.ndim < log_p.ndim - 1:
        labels = labels[..., None]
    true = labels[..., None].expand(*log_p.shape[:-1], 1)
    log_p_true, log_p_others, among_p = _parts(log_p, true)
    log_q_true, log_q_others, among_q = _parts(log_q, true)
    binary = log_p_true.exp() * (log_p_true - log_q_true)
    binary = binary + log_p_others.exp() * (log_p_others - log_q_others)
    binary = binary + _rounded_away(target, kind)
    gap = (among_p - among_q).scatter(-1, true, 0.0)  # -inf against -inf at the true class
    others = (among_p.exp() * gap).sum(dim=-1)
    return (temperature**2 * (alpha * binary + beta * others)).to(kind)


def _parts(log_p: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log probability of the true class, of all others, and of each among the others."""
    others = log_p.scatter(-1, true, -torch.inf)
    all_others = others.logsumexp(dim=-1)
    return log_p.gather(-1, true).squeeze(-1), all_others, others - all_others[..., None]


def correlation(
    target: Float[Tensor, "*teachers C"],
    logits: Float[Tensor, "*students C"],
    temperature: float,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Float[Tensor, "*both"]:
    """DIST (Huang et al. 2022, eq. 6-9), times temperature^2: one minus Pearson correlations.

    beta * between classes, for each example; gamma * between the examples of the batch, for each
    class, the mean over classes repeated for every example. For a single example the second part
    is 0. As in the public code, 1e-8 is added to the product of the two lengths.

    Args:
        target: probabilities, softened already, (B, C) or (B, T, C).
        logits: the student's raw scores, (B, C) or (B, 1, C).
        temperature: > 0, of the student's side.
        beta: weight of the correlation between classes.
        gamma: weight of the correlation between examples.

    Returns:
        (B,) or (B, T).
    """
    probabilities = soften(logits, temperature)
    loss = beta * (1 - _pearson(probabilities, target, dim=-1))
    if len(logits) > 1:
        loss = loss + gamma * (1 - _pearson(probabilities, target, dim=0)).mean(dim=-1)
    return temperature**2 * loss


def _pearson(first: Tensor, second: Tensor, dim: int) -> Tensor:
    first, second = (values - values.mean(dim=dim, keepdim=True) for values in (first, second))
    product = torch.linalg.vector_norm(first, dim=dim) * torch.linalg.vector_norm(second, dim=dim)
    return (first * second).sum(dim=dim) / (product + 1e-8)


def logit_error(
    target: Float[Tensor, "*teachers C"], logits: Float[Tensor, "*students C"]
) -> Float[Tensor, "*both"]:
    """Squared error of raw logits, the mean over classes (Ba, Caruana 2014, eq. 3 times 2 / C).

    Half of it is the limit of `soft_target` at high temperatures, for logits of mean 0.

    Args:
        target: the teacher's raw scores, (B, C) or (B, T, C).
        logits: the student's, (B, C) or (B, 1, C).
    """
    return (logits - target).square().mean(dim=-1)


def cross_entropy(
    logits_BC: Float[Tensor, "B C"],
    labels_B: Int[Tensor, " B"],
    temperature: float = 1.0,
    weights_C: Float[Tensor, " C"] | None = None,
    smoothing: float = 0.0,
) -> Float[Tensor, " B"]:
    """-log softmax(logits / temperature) of the true class, in nats, unscaled.

    Args:
        logits_BC: raw scores.
        labels_B: true classes.
        temperature: > 0.
        weights_C: of each class, >= 0; None for 1. An example's loss is multiplied by its class's,
            and is not divided by the batch's sum of weights, as torch's mean is.
        smoothing: part of the label that all classes share equally, 0 to 1 (Szegedy et al. 2016,
            section 7); each class's share is multiplied by its own weight, as in torch.
    """
    if weights_C is not None:
        weights_C = weights_C.to(logits_BC.dtype)
    return F.cross_entropy(
        logits_BC / temperature,
        labels_B,
        weight=weights_C,
        reduction="none",
        label_smoothing=smoothing,
    )


def _exact(target: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, torch.dtype]:
    """Both in float64, and their original type.

    A divergence is a small difference of large terms: at a temperature of 20, float32 would keep
    four digits of it. The cost is small: a few numbers per example.
    """
    kind = torch.promote_types(target.dtype, logits.dtype)
    exact = kind if logits.device.type == "mps" else torch.float64  # which has no float64
    return target.to(exact), logits.to(exact), kind


def _rounded_away(target: Tensor, kind: torch.dtype) -> Tensor:
    """What rounding took from the sum of a distribution, which is most of the error of its KL.

    0 for rows that are no distribution, such as zeros where no teacher knows the class.
    """
    lost = (1 - target.sum(dim=-1)).detach()
    rounded = (lost.abs() < 1e-3) & (kind != torch.float64)
    return torch.where(rounded, lost, 0)


def _log(probabilities: Tensor, kind: torch.dtype) -> Tensor:
    # The clamp keeps the gradient finite where a probability underflowed to 0.
    return probabilities.clamp_min(torch.finfo(kind).tiny).log()


@dataclass(frozen=True)
class KLLoss(AbstractLogitLoss):
    """Knowledge distillation (Hinton et al. 2015): temperature^2 KL(target || student)."""

    slug = "kl"
    ignores_filled_classes = True

    def __call__(self, target: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """See `soft_target`."""
        return soft_target(target, logits, self.temperature)


@dataclass(frozen=True)
class DKDLoss(AbstractLogitLoss):
    """Decoupled knowledge distillation (Zhao et al. 2022)."""

    slug = "dkd"
    mixes = ("loss", "probs", "logits")

    target_class: float = 1.0
    """Weight of the true class against all others (the paper's alpha)."""
    other_classes: float = 8.0
    """Weight of the distribution among the other classes (the paper's beta)."""

    def __call__(self, target: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """See `decoupled`."""
        weights = self.target_class, self.other_classes
        return decoupled(target, logits, labels, self.temperature, *weights)


@dataclass(frozen=True)
class DISTLoss(AbstractLogitLoss):
    """DIST (Huang et al. 2022): correlations between classes and between examples."""

    slug = "dist"
    pointwise = False

    between_classes: float = 1.0
    """Weight of the correlation between classes (the paper's beta)."""
    between_examples: float = 1.0
    """Weight of the correlation between examples (the paper's gamma)."""

    def __call__(self, target: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """See `correlation`."""
        weights = self.between_classes, self.between_examples
        return correlation(target, logits, self.temperature, *weights)


@dataclass(frozen=True)
class LogitRegressionLoss(AbstractLogitLoss):
    """Logit regression (Ba, Caruana 2014): half the squared error of raw logits."""

    slug = "logits"
    mixes = ("logits", "loss")
    softened = False

    def __call__(self, target: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """See `logit_error`; the half makes it the limit of `kl` at high temperatures."""
        return logit_error(target, logits) / 2
