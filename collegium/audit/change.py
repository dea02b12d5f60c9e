"""A change of a teacher that was tried: whether its accuracy rises, and by enough to matter."""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from collegium.audit.headroom import Z_95, Difference, difference
from collegium.evaluation.metrics import share

SURE = 3.0 / Z_95
"""Factor on 95 % intervals before an alarm: three standard errors."""
LEAST = 0.02
"""Smaller changes of an accuracy raise no alarm."""
ERRORS_LEFT = 2 / 3
"""A remedy must remove a third of the errors; networks that stopped early vary by less."""


@dataclass(frozen=True)
class Change:
    """The accuracy of a changed teacher, against that of the teacher as it was loaded.

    Attributes:
        accuracy: with the change, 0..1.
        gain: by the change.
    """

    accuracy: float
    gain: Difference

    @classmethod
    def of(cls, now_N: Bool[Tensor, " N"], before_N: Bool[Tensor, " N"]) -> "Change":
        """The change between two answers to the same images: whether each is right."""
        return cls(share(now_N), difference(now_N, before_N))

    @property
    def before(self) -> float:
        """Accuracy without the change, 0..1."""
        return self.accuracy - self.gain.mean

    @property
    def sure(self) -> bool:
        """Whether it is significantly better."""
        return self.gain.mean >= max(LEAST, SURE * self.gain.half_width)

    @property
    def helps(self) -> bool:
        """Whether it is significantly better, and by enough to matter."""
        return self.sure and 1 - self.accuracy <= ERRORS_LEFT * (1 - self.before)
