"""Calibration of a teacher's confidence, and the temperature that corrects it."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor

from collegium.evaluation.metrics import calibration_error, cross_entropy, reliability
from collegium.evaluation.predict import Predictions

HOTTEST = 100.0
"""Temperatures are searched between this and its inverse."""

Outcome = Literal["found", "at least", "at most", "none"]
"""Result of a search for a temperature: a minimum inside the range; a minimum beyond one of its
ends; no temperature makes the logits better than a uniform guess."""


@dataclass(frozen=True)
class Temperature:
    """The temperature of the least cross entropy.

    Attributes:
        value: the temperature; an end of the range where the minimum is beyond it, infinite where
            none helps.
        outcome: which of these cases it is.
    """

    value: float
    outcome: Outcome

    def __str__(self) -> str:
        forms = {"found": "{:.2f}", "at least": "≥ {:.4g}", "at most": "≤ {:.4g}"}
        return forms.get(self.outcome, "none helps").format(self.value)


def calibrate(outputs: Predictions) -> dict[str, Any]:
    """Confidence against accuracy, as the logits are and at the best temperature.

    Args:
        outputs: of a teacher. Those count whose logits are finite and whose class it knows.

    Returns:
        Nothing if none counts. Else the content of audit.json:
        loss: mean cross entropy in nats.
        ece: expected calibration error, 0..1.
        temperature: divides the logits so that the cross entropy is least; above 1 the teacher is
            overconfident (Guo et al., "On calibration of modern neural networks", ICML 2017). An
            end of the search range where the minimum is beyond it; infinite where none helps.
        temperature_outcome: which of these cases `temperature` is.
        loss_at_temperature: cross entropy then; of a uniform guess where none helps.
        ece_at_temperature: calibration error then; NaN where none helps.
        bins: those that are not empty, from unsure to sure.
    """
    own = outputs.own()
    logits_NC, labels_N = own.logits_NC[own.finite_N], own.labels_N[own.finite_N]
    if not len(labels_N):
        return {}
    extra = 0.0  # the entropy within groups of classes, which are equally likely
    if outputs.labels is not None:
        sizes_G = torch.tensor([float(len(group)) for group in outputs.labels.groups])
        extra = sizes_G.log()[labels_N].mean().item()
    best = best_temperature(logits_NC, labels_N)
    cooled_NC, none = logits_NC / best.value, best.outcome == "none"
    return {
        "loss": cross_entropy(logits_NC, labels_N) + extra,
        "ece": calibration_error(logits_NC, labels_N),
        "temperature": best.value,
        "temperature_outcome": best.outcome,
        "loss_at_temperature": cross_entropy(cooled_NC, labels_N) + extra,
        "ece_at_temperature": math.nan if none else calibration_error(cooled_NC, labels_N),
        "bins": reliability(logits_NC, labels_N),
    }


def best_temperature(logits_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"]) -> Temperature:
    """The temperature of the least cross entropy, and whether there is one in the range.

    >>> import torch
    >>> logits_NC = torch.tensor([[4.0, 0.0]] * 3 + [[0.0, 4.0]])  # sure, and right in 3 of 4
    >>> print(best_temperature(logits_NC, torch.zeros(4).long()))  # 4 / ln 3: 3 to 1
    3.64
    >>> print(best_temperature(-logits_NC, torch.zeros(4).long()))  # right in 1 of 4
    none helps
    >>> print(best_temperature(logits_NC[:3], torch.zeros(3).long()))  # always right
    ≤ 0.01
    """
    double_NC = logits_NC.double()
    if _slope(double_NC, labels_N, 0.0) >= 0:
        return Temperature(math.inf, "none")
    if _slope(double_NC, labels_N, 1 / HOTTEST) >= 0:
        return Temperature(HOTTEST, "at least")
    if _slope(double_NC, labels_N, HOTTEST) <= 0:
        return Temperature(1 / HOTTEST, "at most")
    # The loss is convex in the inverse of the temperature; it is searched on a scale of
    # logarithms, so that small and large ones are found to as many digits.
    found = minimize_scalar(
        lambda power: cross_entropy(double_NC * math.exp(power), labels_N),
        bounds=(-math.log(HOTTEST), math.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return Temperature(math.exp(-float(found.x)), "found")


def _slope(logits_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"], coldness: float) -> float:
    """Derivative of the cross entropy by the inverse of the temperature; 0 where it is rounding."""
    expected_N = ((logits_NC * coldness).softmax(dim=1) * logits_NC).sum(dim=1)
    slope = (expected_N - logits_NC.gather(1, labels_N[:, None])[:, 0]).mean().item()
    return 0.0 if abs(slope) <= 1e-12 * logits_NC.abs().amax().item() else slope
