"""The parts methods are made of: each turns outputs and weights into one value per example."""

from collegium.terms.adapter import AdapterL2, GateLabel, MixtureLabel
from collegium.terms.comparison import Compared, Comparison, ComparisonName
from collegium.terms.feature import ClassifiedHints, Hint, HintNorm
from collegium.terms.flow import Flow
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
