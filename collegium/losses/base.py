"""The base class of losses between a student's logits and a soft target."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from torch import Tensor

Mix = Literal["probs", "logits", "loss"]
"""What is averaged over the teachers: probabilities, logits, or each teacher's loss."""


@dataclass(frozen=True)
class AbstractLogitLoss(ABC):
    """A loss between a student's logits and a soft target; its fields are its options.

    A method passes each field the hyperparameter of the same name.
    """

    slug: ClassVar[str]
    """Name on the command line: `--loss SLUG`."""
    mixes: ClassVar[tuple[Mix, ...]] = ("probs", "logits", "loss")
    """The mixes it can be used with, the default first."""
    pointwise: ClassVar[bool] = True
    """Whether an example's value does not depend on the rest of the batch."""
    softened: ClassVar[bool] = True
    """Whether the target is a softened distribution; if not, it is raw logits."""
    ignores_filled_classes: ClassVar[bool] = False
    """Whether classes where the target equals the student add nothing, as in a KL."""

    temperature: float = 4.0
    """Softmax temperature of both sides, > 0."""

    @classmethod
    def make(cls, options: Mapping[str, Any]) -> "AbstractLogitLoss":
        """The loss with those of a method's hyperparameters that are its fields."""
        names = (field.name for field in fields(cls))
        return cls(**{name: options[name] for name in names if name in options})

    @abstractmethod
    def __call__(self, target: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """The unscaled loss of each example, for one teacher or for T teachers at once.

        Args:
            target: softened probabilities, or raw logits if not `softened`; (B, C) or (B, T, C).
            logits: the student's raw scores, (B, C) or (B, 1, C).
            labels: true classes, (B,) or (B, 1).

        Returns:
            (B,) or (B, T).
        """
