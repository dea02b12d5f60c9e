"""What a source of teacher answers is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from collegium.teachers.teacher import Answer
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


def together(answers: Mapping[str, Answer], groups_TC: Int[Tensor, "T C"] | None) -> TeacherOutputs:
    """What several teachers say, as one.

    Args:
        answers: by name, in the order of the T axis.
        groups_TC: what each tells apart, see `TeacherOutputs`.
    """
    logits_BTC = torch.stack([answer.logits_BC for answer in answers.values()], dim=1)
    maps = {name: answer.maps for name, answer in answers.items() if answer.maps}
    groups_TC = groups_TC if groups_TC is None else groups_TC.to(logits_BTC.device)
    return TeacherOutputs(logits_BTC, maps, groups_TC)
