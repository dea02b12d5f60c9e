"""Stored teacher outputs: a store holds volumes, a volume holds shards, a source fills them."""

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
