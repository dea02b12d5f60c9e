"""What teachers said, kept: shards in volumes, volumes in a store, a source that fills it."""

from collegium.store.source import Filler, Share, StoredTeachers, Tally
from collegium.store.store import Store, TeacherIdentity, ViewsIdentity

__all__ = [
    "Filler",
    "Share",
    "Store",
    "StoredTeachers",
    "Tally",
    "TeacherIdentity",
    "ViewsIdentity",
]
