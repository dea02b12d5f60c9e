"""The terms that methods consist of: each turns outputs and weights into one value per example."""

from collegium.objectives.feature_match import AngleComparison as AngleComparison
from collegium.objectives.feature_match import AttentionComparison as AttentionComparison
from collegium.objectives.feature_match import Compared as Compared
from collegium.objectives.feature_match import DistanceComparison as DistanceComparison
from collegium.objectives.feature_match import SimilarityComparison as SimilarityComparison
from collegium.objectives.flow import Flow as Flow
from collegium.objectives.hints import ClassifiedHints as ClassifiedHints
from collegium.objectives.hints import Hint as Hint
from collegium.objectives.logits import HardLabel as HardLabel
from collegium.objectives.logits import RelationToTarget as RelationToTarget
from collegium.objectives.logits import SoftLoss as SoftLoss
from collegium.objectives.logits import SoftTarget as SoftTarget
from collegium.objectives.weighting_losses import AdapterL2 as AdapterL2
from collegium.objectives.weighting_losses import MixtureLabel as MixtureLabel
from collegium.objectives.weighting_losses import OwnLoss as OwnLoss
