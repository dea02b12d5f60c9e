"""What a source of teacher answers is."""

from abc import ABC, abstractmethod

from jaxtyping import Int
from torch import Tensor

from collegium.types import Batch, TeacherOutputs


class AbstractTeacherSource(ABC):
    """Answers for batches of views, with the same numbers every time it is asked.

    It is no `nn.Module`: no `train()`, `parameters()` or `state_dict()` of anything it is held by
    can reach a teacher.
    """

    names: tuple[str, ...]
    """The teachers, in the order of the T axis."""

    def expect(self, index_N: Int[Tensor, " N"], view_N: Int[Tensor, " N"]) -> None:  # noqa: B027
        """Hear which views will be asked for next, over all processes, to get ready for them."""

    @abstractmethod
    def outputs(self, batch: Batch) -> TeacherOutputs:
        """What every teacher says of these views, without gradient."""
