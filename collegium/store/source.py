"""Teacher outputs from a store; each missing output is computed once and stored."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from collegium.data import Views
from collegium.errors import NumericsError
from collegium.store.store import LOGITS
from collegium.store.volume import Index, Volume
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.teachers.source import AbstractTeacherSource, together
from collegium.teachers.teacher import Answer, Teacher
from collegium.types import Batch, Layers, TeacherOutputs

FLUSH_SECONDS = 20.0
"""Seconds between writes to the disk: a killed process loses no older outputs."""

Volumes = Mapping[str, Volume]
"""The volumes of one teacher by kind of output: "logits" and layers."""


@dataclass(frozen=True)
class ProcessShard:
    """The share of the work of this process.

    Attributes:
        rank: index of this process, from 0.
        world: number of processes.
        wait: a barrier: returns when all processes have called it.
    """

    rank: int = 0
    world: int = 1
    wait: Callable[[], object] = lambda: None


@dataclass
class StoreStats:
    """Counts of the outputs that were requested and computed.

    Attributes:
        requested: number of requested outputs (one teacher, one view).
        computed: number of these that were missing, so that a teacher had to run.
        seconds: time this process spent running teachers.
    """

    requested: int = 0
    computed: int = 0
    seconds: float = 0.0

    @property
    def hits(self) -> float:
        """Fraction of the requested outputs that were already stored, 0..1."""
        return 1 - self.computed / self.requested if self.requested else 0.0


@dataclass
class StoreWriter:
    """Runs teachers to compute missing outputs.

    Attributes:
        ensemble: the teachers.
        views: creates the pixels.
        chunk: number of views in one forward pass.
        share: the share of the work of this process.
        begin: called before the first output is stored.
        tell: called with a teacher's name, the number of finished views and the number of all.
        stats: counts of the work done so far.
    """

    ensemble: TeacherEnsemble
    views: Views
    chunk: int = 128
    share: ProcessShard = field(default_factory=ProcessShard)
    begin: Callable[[], None] = lambda: None
    tell: Callable[[str, int, int], None] = lambda name, done, of: None
    stats: StoreStats = field(default_factory=StoreStats)

    def __post_init__(self) -> None:
        self._begun = False

    def fill(
        self, name: str, volumes: Volumes, index_N: Index, view: int, *, alone: bool = False
    ) -> None:
        """Run one teacher on one view of the examples for which any kind of output is missing.

        Args:
            name: of the teacher.
            volumes: of the teacher.
            index_N: indices of the examples.
            view: the view of all these examples.
            alone: this process computes everything, regardless of its share.

        Raises:
            NumericsError: an output is NaN or infinite; it is not stored.
            ResourceError: the disk is full.
        """
        absent = np.zeros(len(index_N), bool)
        for volume in volumes.values():
            absent |= volume.absent(index_N, view)
        missing = np.unique(index_N[absent])
        self.stats.computed += len(missing)
        missing = missing if alone else self._mine(missing, volumes)
        if not len(missing):
            return
        if not self._begun:
            self.begin()
            self._begun = True
        started = time.perf_counter()
        paths = tuple(kind for kind in volumes if kind != LOGITS)
        with self.ensemble.loaded(name, paths) as teacher:
            self._ask(name, teacher, volumes, missing, view)
        self.stats.seconds += time.perf_counter() - started

    def _mine(self, missing: Index, volumes: Volumes) -> Index:
        """The missing examples that this process computes.

        They are divided by whole shards of the kind with the most rows per shard, so that no two
        processes write the same file.
        """
        rows = max(volume.rows for volume in volumes.values())
        return missing[(missing // rows) % self.share.world == self.share.rank]

    def _ask(
        self, name: str, teacher: Teacher, volumes: Volumes, missing: Index, view: int
    ) -> None:
        rows, done = min(volume.rows for volume in volumes.values()), 0
        for shard in np.split(missing, np.flatnonzero(np.diff(missing // rows)) + 1):
            flushed, waiting = time.perf_counter(), _Waiting()
            chunks = np.split(shard, range(self.chunk, len(shard), self.chunk))
            pixels = self.views.stream([self._positions(index) for index in chunks], view)
            for index, views_BDHW in zip(chunks, pixels, strict=True):
                waiting.take(index, _answer(name, teacher, index, view, views_BDHW))
                done += len(index)
                self.tell(name, done, len(missing))
                if time.perf_counter() - flushed > FLUSH_SECONDS:
                    waiting.flush(volumes, view)
                    flushed = time.perf_counter()
            waiting.flush(volumes, view)

    def ask_again(self, name: str, index_B: Index, view_B: Index) -> Tensor:
        """Compute the logits of views in their stored form, whether they are stored or not."""
        with self.ensemble.loaded(name) as teacher:
            device = self.views.data.labels_N.device
            index, view = (torch.from_numpy(keys).to(device) for keys in (index_B, view_B))
            return _packed(teacher, teacher.answer(self.views.of(index, view))).logits_BC

    def _positions(self, index_B: Index) -> Tensor:
        return self.views.positions(torch.from_numpy(index_B).to(self.views.data.labels_N.device))


def _answer(name: str, teacher: Teacher, index: Index, view: int, views_BDHW: Tensor) -> Answer:
    answer = teacher.answer(views_BDHW)
    finite_B = answer.logits_BC.isfinite().all(dim=1)
    if not finite_B.all():
        raise NumericsError(
            f"teacher {name} gave NaN or infinite logits for example "
            f"{int(index[~finite_B.cpu().numpy()][0])}, view {view}; it is not stored"
        )
    return _packed(teacher, answer)


def _packed(teacher: Teacher, answer: Answer) -> Answer:
    """The stored form of an output: one logit for each group of classes that the teacher knows."""
    if teacher.labels is None:
        return answer
    return replace(answer, logits_BC=teacher.labels.pack(answer.logits_BC))


class _Waiting:
    """Outputs that are not yet written to the disk."""

    def __init__(self) -> None:
        self._index: list[Index] = []
        self._answers: list[Mapping[str, Tensor]] = []

    def take(self, index: Index, answer: Answer) -> None:
        self._index.append(index)
        kinds = {LOGITS: answer.logits_BC, **answer.maps}
        self._answers.append({kind: values.cpu() for kind, values in kinds.items()})

    def flush(self, volumes: Volumes, view: int) -> None:
        if not self._index:
            return
        index = np.concatenate(self._index)
        for kind, volume in volumes.items():
            volume.add(index, view, torch.cat([answers[kind] for answers in self._answers]))
        self.__init__()  # type: ignore[misc]


class StoredTeachers(AbstractTeacherSource):
    """Reads teacher outputs from a store; missing outputs are computed and stored.

    Args:
        names: of all teachers.
        volumes: of the teachers whose outputs are stored.
        live: the other teachers, which run in every step.
        writer: computes missing outputs.
        layers: the features that are read, by teacher.
    """

    def __init__(
        self,
        names: Sequence[str],
        volumes: Mapping[str, Volumes],
        live: Mapping[str, Teacher],
        writer: StoreWriter,
        layers: Layers,
    ) -> None:
        self.names = tuple(names)
        self._volumes, self._writer = dict(volumes), writer
        self._layers, self._live = layers, dict(live)
        self._labels = {name: writer.ensemble.infos[name].labels for name in names}
        self._groups_TC = writer.ensemble.groups(names, len(writer.views.data.classes))

    @property
    def stats(self) -> StoreStats:
        """Counts of the outputs requested and computed so far."""
        return self._writer.stats

    def expect(self, index_N: Tensor, view_N: Tensor) -> None:
        """Compute missing outputs, one teacher after another, each process for its own shards."""
        index, view = index_N.cpu().numpy(), view_N.cpu().numpy()
        self.stats.requested += len(index) * len(self._volumes)
        self._fill(index, view)
        self._writer.share.wait()

    def outputs(self, batch: Batch) -> TeacherOutputs:
        """Read the stored outputs; compute missing ones, of views that `expect` did not get."""
        index, view = batch.index_B.cpu().numpy(), batch.view_B.cpu().numpy()
        try:
            answers = {name: self._answer(name, batch, index, view) for name in self.names}
        except KeyError:
            self._fill(index, view, alone=True)
            answers = {name: self._answer(name, batch, index, view) for name in self.names}
        return together(answers, self._groups_TC)

    def _fill(self, index: Index, view: Index, alone: bool = False) -> None:
        for name, volumes in self._volumes.items():
            for one in np.unique(view):
                self._writer.fill(name, volumes, index[view == one], int(one), alone=alone)

    def _answer(self, name: str, batch: Batch, index: Index, view: Index) -> Answer:
        if name in self._live:
            return self._live[name].answer(batch.images_BDHW)
        device = batch.images_BDHW.device
        kinds = {
            kind: volume.look_up(index, view).to(device)
            for kind, volume in self._volumes[name].items()
        }
        paths, labels = self._layers.teachers.get(name, ()), self._labels[name]
        logits_BC = kinds[LOGITS] if labels is None else labels.spread(kinds[LOGITS])
        return Answer(logits_BC, {path: kinds[path] for path in paths})
