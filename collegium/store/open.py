"""Opens a store for a request, and creates the source of stored teacher outputs for a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collegium.build import Runtime
from collegium.config.options import Machine, Storage
from collegium.data import Views
from collegium.errors import RequestError
from collegium.store import ProcessShard, Store, StoredTeachers, StoreWriter
from collegium.store.identity import (
    Codecs,
    check_answers,
    identity_of_views,
    open_volumes,
)
from collegium.store.plan import make_plan
from collegium.store.source import Volumes
from collegium.store.store import LOGITS
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.types import Layers

CHECKED = 16
"""Number of outputs of each teacher that a run recomputes, to verify that they match."""


@dataclass(frozen=True)
class StoreRequest:
    """The teachers, data and machine of a store.

    Attributes:
        data: the data string the user gave.
        views: of these data.
        ensemble: the teachers.
        batch_size: number of views in one forward pass.
        runtime: where the teachers run.
    """

    data: str
    views: Views
    ensemble: TeacherEnsemble
    batch_size: int
    runtime: Runtime

    def open(
        self, folder: Path, codecs: Mapping[str, Codecs]
    ) -> tuple[Store, dict[str, Volumes], StoreWriter]:
        """Open a store, the volumes of these teachers, and the writer that fills them.

        Raises:
            FolderError: the store belongs to other data, views or teachers.
        """
        fabric, display = self.runtime.fabric, self.runtime.display
        precision = self.runtime.machine.precision
        store = Store(folder, identity_of_views(self.views, self.data), display.warn)
        volumes, begin = open_volumes(store, self.ensemble, codecs, precision)
        writer = StoreWriter(
            self.ensemble,
            self.views,
            self.batch_size,
            ProcessShard(fabric.global_rank, fabric.world_size, fabric.barrier),
            begin,
            display.teacher_views,
        )
        return store, volumes, writer

    def plan(
        self, folder: Path, volumes: Mapping[str, Volumes], views: Sequence[int], epochs: int
    ) -> None:
        """Print the time and disk space that storing these views takes, and the time it saves.

        Raises:
            FolderError: the disk has too little space.
        """
        if not volumes:
            return
        index_N = self.views.data.index_N.cpu().numpy()
        plan = make_plan(folder, volumes, self.ensemble, index_N, views, epochs)
        self.runtime.display.say(plan.table())
        plan.check()


def check_storage(storage: Storage, machine: Machine, views: int | None) -> None:
    """Reject incompatible options before anything is loaded.

    Raises:
        RequestError: a store is given without a limit on views, or bounded memory without a store.
    """
    if storage.store is not None and views == 0:
        raise RequestError(
            "--store keeps answers to be found again, and with --views 0 no view comes twice; "
            "give a number of views"
        )
    if storage.store is None and machine.teacher_memory == "bounded":
        raise RequestError(
            "--teacher-memory bounded runs teachers one by one, ahead of training: it needs "
            "--store DIR"
        )


def stored_teachers(
    request: StoreRequest,
    storage: Storage,
    names: tuple[str, ...],
    layers: Layers,
    views_by_epoch: Sequence[int],
) -> tuple[StoredTeachers, Store]:
    """Create a run's source of stored teacher outputs, after printing its cost.

    Args:
        request: teachers, data and machine.
        storage: the store and its codecs.
        names: of the active teachers.
        layers: the features that are read.
        views_by_epoch: the view each epoch uses.

    Raises:
        FolderError: the store belongs to another request, or the disk has too little space.
        RequestError: the options are incompatible.
    """
    live = _live(storage, names, layers, request.ensemble)
    codecs: dict[str, Codecs] = {
        name: {LOGITS: storage.store_logits}
        | dict.fromkeys(layers.teachers.get(name, ()), storage.store_hints)
        for name in names
        if name not in live
    }
    folder = Path(str(storage.store))
    store, volumes, writer = request.open(folder, codecs)
    for name, kinds in volumes.items():
        check_answers(writer, name, kinds, CHECKED)
    request.plan(folder, volumes, sorted(set(views_by_epoch)), len(views_by_epoch))
    if live:
        request.runtime.display.say(
            f"teachers {', '.join(live)} run in every step: their hints are not stored "
            "(--store-hints int8, fp16 or fp32)"
        )
    running = {name: request.ensemble.teacher(name, layers.teachers[name]) for name in live}
    return StoredTeachers(names, volumes, running, writer, layers), store


def _live(
    storage: Storage, names: tuple[str, ...], layers: Layers, ensemble: TeacherEnsemble
) -> list[str]:
    """The teachers that must run in every step: their features are read but not stored."""
    hinting = [name for name in names if layers.teachers.get(name)]
    live = hinting if storage.store_hints == "none" else []
    if live and ensemble.bounded:
        raise RequestError(
            f"the hints of {', '.join(live)} are not stored, so these teachers run in every step: "
            "with --teacher-memory bounded give --store-hints, or a method without hints"
        )
    return live
