"""Pure loss functions: tensors in, one value per example out.

Every function returns shape (B,); the mean over B is the published scalar. Means over the batch
are taken once, by `collegium.total`. docs/conventions.md says where public code differs.
"""

from collegium.losses.feature import (
    attention,
    direction_hint,
    hint,
    match_resolution,
    unit_channels,
)
from collegium.losses.relation import angle, distance
from collegium.losses.response import cross_entropy, kl_divergence, soft_target, soften

__all__ = [
    "angle",
    "attention",
    "cross_entropy",
    "direction_hint",
    "distance",
    "hint",
    "kl_divergence",
    "match_resolution",
    "soft_target",
    "soften",
    "unit_channels",
]
