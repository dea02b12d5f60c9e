"""Builds and checks every part of a run before anything is written."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from collegium.build import (
    Runtime,
    TeacherRequest,
    input_spec_of,
    make_dims,
    make_ensemble,
    make_runtime,
    make_splits,
    make_student,
    teacher_work,
)
from collegium.config.run import Run
from collegium.data import Loader, Splits
from collegium.errors import NumericsError
from collegium.methods.base import require
from collegium.models.features.discover import survey
from collegium.models.features.pairing import explicit_layers, pair_table
from collegium.models.features.work import multiply_adds
from collegium.models.input_spec import InputSpec
from collegium.models.licences import read_licence
from collegium.models.network import SEES_GREY, Network
from collegium.models.user_modules import spare
from collegium.objectives.hard_label import note_of, resolve_class_weights, set_hard_label
from collegium.objectives.objective import Objective
from collegium.runner.trial_step import part_sizes, parts_warning, try_step
from collegium.store import Store
from collegium.store.open import StoreRequest, check_storage, stored_teachers
from collegium.store.whole_splits import SplitPredictor
from collegium.teachers import AbstractTeacherSource, LiveTeachers
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.teachers.optimize import to_channels_last
from collegium.training.module import DistillModule, student_layers
from collegium.training.precision import notes_on
from collegium.training.prepared import PreparedRun, Teachers
from collegium.types import Dims, Layers
from collegium.utils.threads import FORWARD_AND_BACKWARD

SAMPLED = 1000
"""Number of validation images for measuring teachers, unless the method needs accuracies."""


@dataclass(frozen=True)
class _Base:
    """The parts from which all other parts are built."""

    run: Run
    runtime: Runtime
    splits: Splits
    input_spec: InputSpec

    @property
    def steps(self) -> int:
        """Number of steps of the whole training."""
        options = self.run.optimisation
        return options.epochs * -(-len(self.splits.train) // options.batch_size)

    def loader(self, **options: Any) -> Loader:
        """This process's part of the training data, shuffled."""
        fabric = self.runtime.fabric
        return Loader(
            self.splits.train,
            self.run.optimisation.batch_size,
            shuffle=True,
            rank=fabric.global_rank,
            world=fabric.world_size,
            **options,
        )


def prepare_run(
    run: Run, *, quiet: bool = False, label: str = "train", threads: int | None = None
) -> PreparedRun:
    """Build every part of a run, and check now what would otherwise fail later.

    Args:
        run: the request.
        quiet: show no progress.
        label: shown in front of progress lines.
        threads: number of threads of the run that is resumed; None to choose the number.

    Raises:
        RequestError: a part cannot be built, or parts do not fit together.
        NumericsError: a teacher's outputs are not finite.
    """
    check_storage(run.storage, run.machine, run.views)
    layers = explicit_layers(run.method.requested_pairs(), tuple(run.teachers))
    base = _base(run, label, quiet)
    student, channels_last, part = _student(base)
    ensemble = _ensemble(base, layers.teachers)
    maps = survey(student, base.input_spec.image_shape, layers.student, "the student")
    work = FORWARD_AND_BACKWARD * multiply_adds(student, base.input_spec.image_shape)
    threads = base.runtime.set_threads(part * (work + teacher_work(ensemble)), threads)
    base, teachers = _resolve(base, ensemble)
    infos = {name: ensemble.infos[name] for name in teachers.active}
    dims = make_dims(len(base.input_spec.classes), maps, infos, run.seed)
    module = _module(base, student, part, dims)
    loader = base.loader(
        recipe=base.run.augment or base.splits.train.augment,
        views=base.run.views or 0,
        seed=run.seed,
        view_seed=run.view_seed,
        device=base.runtime.fabric.device,
        channels_last=channels_last,
        workers=run.machine.decoders,
    )
    source, store = _source(base, teachers, loader, module.objective.layers, dims.classes)
    return PreparedRun(
        base.run, base.runtime, base.splits, teachers, module, loader, source, store, threads
    )


def _base(run: Run, label: str, quiet: bool) -> _Base:
    runtime = make_runtime(run.machine, label, quiet)
    display, size = runtime.display, run.image_size
    for note in notes_on(run.machine):
        display.say(note)
    splits = make_splits(
        run.data, run.validation, run.seed, size, run.machine, display, run.classes
    )
    return _Base(run, runtime, splits, input_spec_of(splits.train))


def _student(base: _Base) -> tuple[Network, bool, int]:
    """The network that is trained, whether it is channels-last, and its most views in one pass."""
    run, machine, fabric = base.run, base.run.machine, base.runtime.fabric
    display, shape = base.runtime.display, base.input_spec.image_shape
    network = make_student(run.student, base.input_spec, run.seed)
    for note in network.origin.notes:
        show = display.warn if note == SEES_GREY else display.say
        show(f"student: {note}")
    for doubt in network.origin.doubts:
        display.warn(f"student: {doubt}")
    network.to(fabric.device)
    sizes = part_sizes(base.loader(workers=0).sizes(), machine.micro_batches)
    channels_last, notes = try_step(network, shape, sizes, fabric.autocast, machine)
    for note in notes:
        display.say(f"student: {note}")
    if channels_last:
        to_channels_last(network)
    return network, channels_last, max(sizes)


def _ensemble(base: _Base, layers: Mapping[str, Sequence[str]]) -> TeacherEnsemble:
    run, display = base.run, base.runtime.display
    request = TeacherRequest(run.teachers, run.to_json()["teachers"], run.labels, layers)
    batch_size = run.optimisation.batch_size
    ensemble = make_ensemble(request, base.splits, base.runtime, base.steps, batch_size)
    for info in ensemble.infos.values():
        label_notes = () if info.labels is None else (info.labels.note(),)
        for note in (*label_notes, *info.notes):
            display.say(f"teacher {info.name}: {note}")
        if warning := read_licence(info.licence).warning:
            display.warn(f"teacher {info.name}: {warning}")
        for doubt in info.doubts:
            display.warn(f"teacher {info.name}: {doubt}")
    return ensemble


def _resolve(base: _Base, ensemble: TeacherEnsemble) -> tuple[_Base, Teachers]:
    """Measure the teachers, and resolve the method's active teachers and the number of views.

    Raises:
        RequestError: the method uses teachers, and the request has none.
    """
    run, runtime, names = base.run, base.runtime, ensemble.names
    folder = None if run.storage.store is None else Path(run.storage.store)
    predict_split = SplitPredictor(ensemble, runtime, folder, run.to_json()["data"])
    measured = _measure_teachers(base, predict_split)
    require(
        bool(names) or not run.method.uses_teachers,
        f"method {run.method.slug} uses teachers and none was given: add --teacher NAME=MODEL, or "
        "use vanilla",
    )
    accuracy = {name: found["accuracy"] for name, found in measured.items()}
    method = run.method.resolve_teachers(names, accuracy)
    views = run.views
    if views is None:
        # A quarter of the epochs, so that teacher outputs can be stored; the same without a store,
        # so that storing never changes the result. 0 means new views in every epoch.
        views = -(-run.optimisation.epochs // 4) if method.uses_teachers else 0
    teachers = Teachers(ensemble, predict_split, measured, method.active_teachers(names))
    resolved = dataclasses.replace(run, method=method, views=views)
    return dataclasses.replace(base, run=resolved), teachers


def _measure_teachers(base: _Base, predict_split: SplitPredictor) -> dict[str, dict[str, Any]]:
    """Accuracy of each teacher on the validation split, for the record and for the method."""
    data = base.splits.validation
    if data is None:
        return {}
    # Measuring on all images would take longer than all other setup.
    if not base.run.method.needs_teacher_accuracy and len(data) > SAMPLED:
        data = data.subset(torch.linspace(0, len(data) - 1, SAMPLED).long())
    measured = {}
    for name in predict_split.ensemble.names:
        base.runtime.display.say(f"teacher {name}: measuring on {len(data)} images")
        # Do not write to the store: a later check may still reject the request.
        found = predict_split(name, data, fill=False)
        bad_N = ~found.finite_N
        if bad_N.any():
            raise NumericsError(
                f"teacher {name} gave NaN or infinite logits for validation example "
                f"{int(found.index_N[bad_N][0])}, before step 0: are its weights damaged?"
            )
        measured[name] = {"accuracy": found.accuracy, **found.of_known()}
    return measured


def _module(base: _Base, student: Network, part: int, dims: Dims) -> DistillModule:
    run, fabric, display = base.run, base.runtime.fabric, base.runtime.display
    objective = run.method.build(dims)
    split = run.machine.micro_batches, fabric.world_size
    if warning := parts_warning(student, objective, part, *split):
        display.warn(warning)
    _set_hard_label(base, objective)
    if pairs := objective.layers.pairs:
        display.say(pair_table(pairs, dims))
    layers = student_layers(objective, dims)
    if layers:
        # Check that they can be read in training. The student must not have hooks yet: if it cannot
        # be copied, `spare` gives the student itself and removes all hooks.
        with spare(student, "the student") as twin, fabric.autocast():
            views_BDHW = torch.zeros(min(part, 2), *base.input_spec.image_shape)
            trial = DistillModule(twin, objective, layers).train()
            trial.forward_student(views_BDHW.to(fabric.device))
    compiled = run.machine.compiles(fabric.device.type, base.steps)
    size = -(-run.optimisation.batch_size // run.machine.micro_batches) // fabric.world_size
    return DistillModule(student, objective, layers, compiled_for=size if compiled else 0)


def _set_hard_label(base: _Base, objective: Objective) -> None:
    run, train = base.run, base.splits.train
    weights_C = None
    if run.class_weights is not None:
        weights_C = resolve_class_weights(run.class_weights, train.classes, train.labels_N)
        base.runtime.display.say(note_of(weights_C, train.classes))
    set_hard_label(objective, run.method.slug, weights_C, run.label_smoothing)


def _source(
    base: _Base, teachers: Teachers, loader: Loader, layers: Layers, classes: int
) -> tuple[AbstractTeacherSource, Store | None]:
    """The source of the active teachers' outputs, and its store; None for live teachers."""
    run, runtime, ensemble = base.run, base.runtime, teachers.ensemble
    if run.storage.store is None or not teachers.active:
        live = {n: ensemble.teacher(n, layers.teachers.get(n, ())) for n in teachers.active}
        return LiveTeachers(live, classes), None
    data, batch_size = run.to_json()["data"], run.optimisation.batch_size
    request = StoreRequest(data, loader.views, ensemble, batch_size, runtime)
    views = [loader.view(epoch) for epoch in range(run.optimisation.epochs)]
    return stored_teachers(request, run.storage, teachers.active, layers, views)
