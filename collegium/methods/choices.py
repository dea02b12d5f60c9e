"""What methods choose from by name: weightings and losses. Nothing here imports torch."""

from typing import TYPE_CHECKING, Literal

from collegium.utils.registry import Registry

if TYPE_CHECKING:
    from collegium.losses import AbstractLogitLoss
    from collegium.weighting import AbstractWeighting

WEIGHTINGS: "Registry[AbstractWeighting]" = Registry(
    "weighting",
    "collegium.weightings",
    "collegium.weighting.base:AbstractWeighting",
    "collegium.weighting",
)
"""Every weighting of teachers by name."""
LOSSES: "Registry[AbstractLogitLoss]" = Registry(
    "loss", "collegium.losses", "collegium.losses.base:AbstractLogitLoss", "collegium.losses"
)
"""Every loss between a student's logits and a soft target by name."""

Mix = Literal["probs", "logits", "loss"]

# The command line takes the choices of an option from its type. Type checkers cannot know them.
if TYPE_CHECKING:
    WeightingName = str
    LossName = str
else:
    WeightingName = Literal[tuple(WEIGHTINGS.names())]
    LossName = Literal[tuple(LOSSES.names())]
