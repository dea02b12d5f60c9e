"""What teachers said, kept: shards in volumes, volumes in a store, a source that fills it."""

from collegium.store.source import ProcessShard, StoredTeachers, StoreStats, StoreWriter
from collegium.store.store import Store, TeacherIdentity, ViewsIdentity

__all__ = [
    "ProcessShard",
    "Store",
    "StoreStats",
    "StoreWriter",
    "StoredTeachers",
    "TeacherIdentity",
    "ViewsIdentity",
]
