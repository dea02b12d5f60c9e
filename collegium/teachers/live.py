"""Teachers that are run now, for every batch."""

from collections.abc import Mapping

import torch

from collegium.teachers.source import AbstractTeacherSource
from collegium.teachers.teacher import Teacher
from collegium.types import Batch, TeacherOutputs


class LiveTeachers(AbstractTeacherSource):
    """Frozen networks, each looking at the view in its own terms.

    Args:
        teachers: by name.
        classes: C, for a source without teachers.
    """

    def __init__(self, teachers: Mapping[str, Teacher], classes: int = 0) -> None:
        self.names = tuple(teachers)
        self._teachers = dict(teachers)
        self._classes = classes

    def outputs(self, batch: Batch) -> TeacherOutputs:
        """One forward of each teacher, in listed order."""
        images_BDHW = batch.images_BDHW
        answers = {name: said.answer(images_BDHW) for name, said in self._teachers.items()}
        if not answers:
            return TeacherOutputs(images_BDHW.new_empty(len(batch), 0, self._classes))
        logits_BTC = torch.stack([answer.logits_BC for answer in answers.values()], dim=1)
        maps = {name: answer.maps for name, answer in answers.items() if answer.maps}
        return TeacherOutputs(logits_BTC, maps)
