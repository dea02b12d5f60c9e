"""The interface of sources of teacher outputs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from collegium.teachers.teacher import Answer
from collegium.types import Batch, TeacherOutputs


class AbstractTeacherSource(ABC):
    """Returns teacher outputs for batches of views; the same views always get the same numbers.

    It is not an `nn.Module`, so `train()`, `parameters()` and `state_dict()` of a module that holds
    it never reach a teacher.
    """

    names: tuple[str, ...]
    """Names of the teachers, in the order of the T axis."""

    def expect(self, index_N: Int[Tensor, " N"], view_N: Int[Tensor, " N"]) -> None:  # noqa: B027
        """Prepare for the views that all processes together will request next."""

    @abstractmethod
    def outputs(self, batch: Batch) -> TeacherOutputs:
        """The outputs of every teacher for these views, without gradient."""


def together(answers: Mapping[str, Answer], groups_TC: Int[Tensor, "T C"] | None) -> TeacherOutputs:
    """Combine the outputs of several teachers.

    Args:
        answers: outputs of each teacher by name, in the order of the T axis.
        groups_TC: the classes each teacher distinguishes, see `TeacherOutputs`.
    """
    logits_BTC = torch.stack([answer.logits_BC for answer in answers.values()], dim=1)
    maps = {name: answer.maps for name, answer in answers.items() if answer.maps}
    groups_TC = groups_TC if groups_TC is None else groups_TC.to(logits_BTC.device)
    return TeacherOutputs(logits_BTC, maps, groups_TC)
