"""Sources of teacher outputs: their interface, and teachers that run live on every batch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from collegium.teachers.label_map import group_table
from collegium.teachers.teacher import Answer, Teacher
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


class LiveTeachers(AbstractTeacherSource):
    """Frozen networks that run on every batch, each with its own preprocessing of the view.

    Args:
        teachers: by name.
        classes: the student's number of classes C; needed without teachers, or if the classes of
            any teacher differ from the student's.
    """

    def __init__(self, teachers: Mapping[str, Teacher], classes: int = 0) -> None:
        self.names = tuple(teachers)
        self._teachers = dict(teachers)
        self._classes = classes
        self._groups_TC = group_table([teacher.labels for teacher in teachers.values()], classes)

    def outputs(self, batch: Batch) -> TeacherOutputs:
        """Run one forward pass of each teacher, in the order of `names`."""
        images_BDHW = batch.images_BDHW
        answers = {name: one.answer(images_BDHW) for name, one in self._teachers.items()}
        if not answers:
            return TeacherOutputs(images_BDHW.new_empty(len(batch), 0, self._classes))
        return together(answers, self._groups_TC)
