"""How far a teacher's confidence can be trusted, and the temperature that mends it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor

from collegium.training.evaluate import BINS, Predictions

HOTTEST = 100.0
"""Temperatures are looked for between this and its inverse."""


@dataclass(frozen=True)
class Bin:
    """Examples of about the same confidence.

    Attributes:
        share: of all examples, 0..1.
        confidence: their mean, 0..1.
        accuracy: part of them that is right.
    """

    share: float
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy, as the logits are and at the best temperature.

    Attributes:
        loss: mean cross entropy in nats.
        ece: expected calibration error, 0..1.
        temperature: divides the logits so that the cross entropy is least; above 1 the teacher is
            too sure (Guo et al., "On calibration of modern neural networks", ICML 2017).
        loss_at_temperature: cross entropy then.
        ece_at_temperature: calibration error then.
        bins: those that are not empty, from unsure to sure.
    """

    loss: float
    ece: float
    temperature: float
    loss_at_temperature: float
    ece_at_temperature: float
    bins: tuple[Bin, ...]


def calibrate(logits_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"]) -> Calibration:
    """Calibration of finite logits, and the temperature that fits these examples best."""
    temperature = best_temperature(logits_NC, labels_N)
    index_N = torch.arange(len(labels_N))
    as_is = Predictions(logits_NC, labels_N, index_N)
    cooled = Predictions(logits_NC / temperature, labels_N, index_N)
    bins = reliability(logits_NC, labels_N)
    return Calibration(as_is.loss, as_is.ece, temperature, cooled.loss, cooled.ece, bins)


def best_temperature(logits_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"]) -> float:
    """The temperature of the least cross entropy; at a bound where it has none.

    >>> import torch
    >>> logits_NC = torch.tensor([[4.0, 0.0]] * 3 + [[0.0, 4.0]])  # sure, and right in 3 of 4
    >>> round(best_temperature(logits_NC, torch.zeros(4).long()), 3)  # 4 / ln 3: 3 to 1
    3.641
    """
    double_NC = logits_NC.double()

    def loss(coldness: float) -> float:  # convex in the inverse of the temperature
        return F.cross_entropy(double_NC * coldness, labels_N).item()

    found = minimize_scalar(loss, bounds=(1 / HOTTEST, HOTTEST), options={"xatol": 1e-5})
    if not found.success:
        return 1.0
    return 1 / float(found.x)


def reliability(logits_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"]) -> tuple[Bin, ...]:
    """Accuracy of examples by confidence, in the bins of the calibration error."""
    confidence_N, classes_N = logits_NC.softmax(dim=1).double().max(dim=1)
    right_N = (classes_N == labels_N).double()
    place_N = (confidence_N * BINS).long().clamp_max(BINS - 1)
    found = []
    for place in place_N.unique().tolist():
        inside = place_N == place
        share = inside.double().mean().item()
        found.append(Bin(share, confidence_N[inside].mean().item(), right_N[inside].mean().item()))
    return tuple(found)
