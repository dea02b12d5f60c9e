"""Losses without state: tensors in, one value per example out.

Every function returns shape (B,), or (B, T) for T teachers at once; the mean over B is the
published scalar. The batch mean is taken once, by `collegium.total`. docs/conventions.md lists
the differences to public code.
"""

from collegium.losses.angles import angle, angle_to_each
from collegium.losses.base import AbstractLogitLoss, Mix
from collegium.losses.feature import (
    attention,
    attention_to_each,
    direction_hint,
    flow,
    flow_error,
    hint,
    match_resolution,
    unit_channels,
)
from collegium.losses.logits import (
    DISTLoss,
    DKDLoss,
    KLLoss,
    LogitRegressionLoss,
    correlation,
    cross_entropy,
    decoupled,
    kl_divergence,
    logit_error,
    merge_classes,
    soft_target,
    soften,
    standardise,
)
from collegium.losses.relation import distance, distance_to_each, similarity, similarity_to_each
from collegium.models.features.pooling import channels_last

__all__ = [
    "AbstractLogitLoss",
    "DISTLoss",
    "DKDLoss",
    "KLLoss",
    "LogitRegressionLoss",
    "Mix",
    "angle",
    "angle_to_each",
    "attention",
    "attention_to_each",
    "channels_last",
    "correlation",
    "cross_entropy",
    "decoupled",
    "direction_hint",
    "distance",
    "distance_to_each",
    "flow",
    "flow_error",
    "hint",
    "kl_divergence",
    "logit_error",
    "match_resolution",
    "merge_classes",
    "similarity",
    "similarity_to_each",
    "soft_target",
    "soften",
    "standardise",
    "unit_channels",
]
