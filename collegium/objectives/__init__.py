"""The parts methods are made of: each turns outputs and weights into one value per example."""

from collegium.objectives.feature_match import Compared, Comparison, ComparisonName
from collegium.objectives.flow import Flow
from collegium.objectives.hints import ClassifiedHints, Hint, HintNorm
from collegium.objectives.logits import (
    MIXES,
    HardLabel,
    LossName,
    Mix,
    SoftLoss,
    SoftTarget,
)
from collegium.objectives.relations import Relation, RelationInput, RelationToTarget
from collegium.objectives.weighting_losses import AdapterL2, GateLabel, MixtureLabel

__all__ = [
    "MIXES",
    "AdapterL2",
    "ClassifiedHints",
    "Compared",
    "Comparison",
    "ComparisonName",
    "Flow",
    "GateLabel",
    "HardLabel",
    "Hint",
    "HintNorm",
    "LossName",
    "Mix",
    "MixtureLabel",
    "Relation",
    "RelationInput",
    "RelationToTarget",
    "SoftLoss",
    "SoftTarget",
]
