"""How much each teacher is heard, for each example.

A weighting is an `nn.Module` that answers `(student, teachers, labels) -> weights_BT`:
non-negative, summing to one over the T teachers. The formulas are pure functions beside it.
"""

from collegium.weighting.base import AbstractWeighting, mixture
from collegium.weighting.fixed import FixedWeighting
from collegium.weighting.latent import LatentWeighting, latent_weights, pool, unit_length

__all__ = [
    "AbstractWeighting",
    "FixedWeighting",
    "LatentWeighting",
    "latent_weights",
    "mixture",
    "pool",
    "unit_length",
]
