"""Teachers answer one call, `outputs(batch)`; nothing downstream can tell how."""

from collegium.teachers.live import LiveTeachers
from collegium.teachers.source import AbstractTeacherSource

__all__ = ["AbstractTeacherSource", "LiveTeachers"]
