"""Teachers that are run now, for every batch."""

from collections.abc import Mapping

from collegium.teachers.label_map import group_table
from collegium.teachers.source import AbstractTeacherSource, together
from collegium.teachers.teacher import Teacher
from collegium.types import Batch, TeacherOutputs


class LiveTeachers(AbstractTeacherSource):
    """Frozen networks, each looking at the view in its own terms.

    Args:
        teachers: by name.
        classes: C of the student; needed without teachers, or where their classes are others.
    """

    def __init__(self, teachers: Mapping[str, Teacher], classes: int = 0) -> None:
        self.names = tuple(teachers)
        self._teachers = dict(teachers)
        self._classes = classes
        self._groups_TC = group_table([said.labels for said in teachers.values()], classes)

    def outputs(self, batch: Batch) -> TeacherOutputs:
        """One forward of each teacher, in listed order."""
        images_BDHW = batch.images_BDHW
        answers = {name: said.answer(images_BDHW) for name, said in self._teachers.items()}
        if not answers:
            return TeacherOutputs(images_BDHW.new_empty(len(batch), 0, self._classes))
        return together(answers, self._groups_TC)
