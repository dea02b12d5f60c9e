"""Sources of teacher outputs: all have one method, `outputs(batch)`, with the same result."""

from collegium.teachers.live import LiveTeachers
from collegium.teachers.source import AbstractTeacherSource

__all__ = ["AbstractTeacherSource", "LiveTeachers"]
