"""The parts methods are made of: each turns outputs and weights into one value per example."""

from collegium.terms.adapter import AdapterL2, GateLabel, MixtureLabel
from collegium.terms.feature import (
    ClassifiedHints,
    Compared,
    Comparison,
    ComparisonName,
    Flow,
    Hint,
    HintNorm,
)
from collegium.terms.relation import Relation, RelationInput, RelationToTarget
from collegium.terms.response import (
    MIXES,
    HardLabel,
    LossName,
    Mix,
    SoftLoss,
    SoftTarget,
)

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
