"""The terms that methods consist of: each turns outputs and weights into one value per example."""

from collegium.objectives.feature_match import (
    AbstractComparison,
    AngleComparison,
    AttentionComparison,
    Compared,
    DistanceComparison,
    SimilarityComparison,
)
from collegium.objectives.flow import Flow
from collegium.objectives.hints import ClassifiedHints, Hint, HintNorm
from collegium.objectives.logits import HardLabel, SoftLoss, SoftTarget
from collegium.objectives.relations import Relation, RelationInput, RelationToTarget
from collegium.objectives.weighting_losses import AdapterL2, MixtureLabel, OwnLoss

__all__ = [
    "AbstractComparison",
    "AdapterL2",
    "AngleComparison",
    "AttentionComparison",
    "ClassifiedHints",
    "Compared",
    "DistanceComparison",
    "Flow",
    "HardLabel",
    "Hint",
    "HintNorm",
    "MixtureLabel",
    "OwnLoss",
    "Relation",
    "RelationInput",
    "RelationToTarget",
    "SimilarityComparison",
    "SoftLoss",
    "SoftTarget",
]
