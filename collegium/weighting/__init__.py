"""How much each teacher counts, for each example.

A weighting is an `nn.Module` that maps `(student, teachers, labels) -> weights_BT`:
non-negative, summing to one over the T teachers. The formulas are pure functions beside it.
"""

from collegium.weighting.base import AbstractWeighting, mixture
from collegium.weighting.confidence import ConfidenceWeighting, confidence_weights
from collegium.weighting.entropy import EntropyWeighting, entropy_weights
from collegium.weighting.fixed import FixedWeighting
from collegium.weighting.gradient import GradientWeighting, gradient_weights, mean_gradients
from collegium.weighting.latent import LatentWeighting, latent_weights, pool, unit_length
from collegium.weighting.masking import fill_unknown, mask_and_renormalize, mask_scores
from collegium.weighting.posterior import (
    GatedWeighting,
    PosteriorWeighting,
    posterior_weights,
    true_class_probability,
)
from collegium.weighting.random import RandomWeighting

__all__ = [
    "AbstractWeighting",
    "ConfidenceWeighting",
    "EntropyWeighting",
    "FixedWeighting",
    "GatedWeighting",
    "GradientWeighting",
    "LatentWeighting",
    "PosteriorWeighting",
    "RandomWeighting",
    "confidence_weights",
    "entropy_weights",
    "fill_unknown",
    "gradient_weights",
    "latent_weights",
    "mask_and_renormalize",
    "mask_scores",
    "mean_gradients",
    "mixture",
    "pool",
    "posterior_weights",
    "true_class_probability",
    "unit_length",
]
