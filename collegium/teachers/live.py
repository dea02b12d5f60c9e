"""Teachers that run live on every batch."""

from collections.abc import Mapping

from collegium.teachers.label_map import group_table
from collegium.teachers.source import AbstractTeacherSource, together
from collegium.teachers.teacher import Teacher
from collegium.types import Batch, TeacherOutputs


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
        self._groups_TC = group_table([said.labels for said in teachers.values()], classes)

    def outputs(self, batch: Batch) -> TeacherOutputs:
        """Run one forward pass of each teacher, in the order of `names`."""
        images_BDHW = batch.images_BDHW
        answers = {name: said.answer(images_BDHW) for name, said in self._teachers.items()}
        if not answers:
            return TeacherOutputs(images_BDHW.new_empty(len(batch), 0, self._classes))
        return together(answers, self._groups_TC)
