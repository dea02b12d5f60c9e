"""Sources of teacher outputs: all have one method, `outputs(batch)`, with the same result."""

from collegium.teachers.source import AbstractTeacherSource, LiveTeachers

__all__ = ["AbstractTeacherSource", "LiveTeachers"]
