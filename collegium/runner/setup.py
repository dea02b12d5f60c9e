"""One session of work on a run: parts are put together, trained, measured and recorded."""

import contextlib
import dataclasses
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from collegium.build import (
    input_spec_of,
    make_dims,
    make_ensemble,
    make_fabric,
    make_splits,
    make_student,
    resolve,
    resolve_views,
)
from collegium.config.run import Run
from collegium.config.same_run import (
    known_ids,
    new_versions,
    refuse_edited,
    refuse_other_code,
    refuse_other_run,
    refuse_other_teachers,
    run_id,
    unknown_code,
)
from collegium.data import Loader
from collegium.errors import NumericsError
from collegium.models.features.pairing import asked_layers, pair_table
from collegium.models.licences import read_licence
from collegium.models.network import SEES_GREY
from collegium.objectives.hard_label import note_of, resolve_class_weights, set_hard_label
from collegium.objectives.objective import Objective
from collegium.records.run_folder import (
    RUN,
    TEACHERS,
    Json,
    Record,
)
from collegium.records.tensorboard import written_to
from collegium.runner import final_evaluation as outcome
from collegium.runner.changes import Allowed, write_changes
from collegium.runner.finish import FinishedTraining, close
from collegium.runner.trial_step import part_sizes, parts_warning, try_step
from collegium.store import Store
from collegium.store.open import StoreRequest, check_storage, stored_teachers
from collegium.store.whole_splits import SplitPredictor
from collegium.teachers import AbstractTeacherSource, LiveTeachers
from collegium.teachers.optimize import to_channels_last
from collegium.training.module import DistillModule, student_layers, try_layers
from collegium.training.precision import notes_on
from collegium.training.trainer import Trainer
from collegium.types import Dims, Layers
from collegium.utils.lock import only_writer
from collegium.utils.progress import Display
from collegium.utils.signals import GracefulInterrupt
from collegium.utils.version import VERSION

SAMPLED = 1000
"""Validation images teachers are measured on before training, where nothing is chosen by it."""


class Session:
    """Everything of a run that is built once.

    Building it checks the whole request; nothing is written before `carry_out`.

    Args:
        run: what to do.
        out: the run folder.
        quiet: show no progress.
        label: in front of progress lines.
        interrupt: knows whether somebody wants to stop; None for nobody.
        events: write metrics for TensorBoard too.
    """

    def __init__(
        self,
        run: Run,
        out: Path,
        *,
        quiet: bool = False,
        label: str = "train",
        interrupt: GracefulInterrupt | None = None,
        events: bool = False,
    ) -> None:
        check_storage(run.storage, run.machine, run.views)
        asked, asked_of = asked_layers(run.method.requested_pairs(), tuple(run.teachers))
        self.interrupt = interrupt or GracefulInterrupt()
        self.out, self.events, self.record = out, events, Record(out)
        self.fabric = make_fabric(run.machine)
        self.display = Display(quiet or not self.fabric.is_global_zero, label)
        for note in notes_on(run.machine):
            self.display.say(note)
        self.splits = make_splits(
            run.data,
            run.validation,
            run.seed,
            run.image_size,
            run.machine,
            self.display,
            run.classes,
        )
        self.input_spec = input_spec_of(self.splits.train)
        self.student = make_student(run.student, self.input_spec, run.seed)
        for note in self.student.origin.notes:
            tell = self.display.warn if note == SEES_GREY else self.display.say
            tell(f"student: {note}")
        for doubt in self.student.origin.doubts:
            self.display.warn(f"student: {doubt}")
        self.student.to(self.fabric.device)
        self.channels_last = self._try_step(run)
        if self.channels_last:
            to_channels_last(self.student)
        specs = run.to_json()["teachers"]
        batch_size, epochs = run.optimisation.batch_size, run.optimisation.epochs
        self.steps = epochs * -(-len(self.splits.train) // batch_size)
        self.ensemble = make_ensemble(
            run.teachers,
            specs,
            self.splits,
            run.machine,
            self.steps,
            batch_size,
            self.fabric,
            run.labels,
            asked_of,
            self.display,
        )
        self.infos = self.ensemble.infos
        for info in self.infos.values():
            known = () if info.labels is None else (info.labels.note(),)
            for note in (*known, *info.notes):
                self.display.say(f"teacher {info.name}: {note}")
            if warning := read_licence(info.licence).warning:
                self.display.warn(f"teacher {info.name}: {warning}")
            for doubt in info.doubts:
                self.display.warn(f"teacher {info.name}: {doubt}")
        self.dims = make_dims(self.student, self.infos, self.input_spec, run.seed, asked)
        self.asked = SplitPredictor(
            self.ensemble,
            run.machine,
            self.fabric,
            self.display,
            None if run.storage.store is None else Path(run.storage.store),
            run.to_json()["data"],
        )
        self.measured = self._measure_teachers(run.method.needs_teacher_accuracy)
        accuracy = {name: found["accuracy"] for name, found in self.measured.items()}
        method = resolve(run.method, self.ensemble.names, accuracy)
        views = resolve_views(run.views, method, run.optimisation.epochs)
        self.request = dataclasses.replace(run, method=method, views=views)
        self._build(method.active_teachers(self.ensemble.names))

    def _try_step(self, run: Run) -> bool:
        """Try a step of training on a copy; gives whether the student takes channels-last."""
        loader = Loader(
            self.splits.train,
            run.optimisation.batch_size,
            shuffle=True,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            workers=0,
        )
        sizes = part_sizes(loader.sizes(), run.machine.micro_batches)
        layout, notes = try_step(
            self.student,
            self.input_spec.image_shape,
            sizes,
            self.fabric.autocast,
            run.machine.channels_last,
            low=run.machine.precision != "32",
        )
        for note in notes:
            self.display.say(f"student: {note}")
        self._part = max(sizes)
        return layout

    def _measure_teachers(self, needs_teacher_accuracy: bool) -> dict[str, dict[str, Any]]:
        """Of each teacher on the validation split: for the record, and for methods that choose."""
        data = self.splits.validation
        if data is None:
            return {}
        # Thousands take longer than all else before the first step, and only a choice needs them.
        if not needs_teacher_accuracy and len(data) > SAMPLED:
            data = data.subset(torch.linspace(0, len(data) - 1, SAMPLED).long())
        found = {}
        for name in self.ensemble.names:
            self.display.say(f"teacher {name}: measuring on {len(data)} images")
            # Nothing is written yet: what is wrong with the request may still be found.
            said = self.asked(name, data, fill=False)
            if not torch.isfinite(said.logits_NC).all():
                bad = ~torch.isfinite(said.logits_NC).all(dim=1)
                raise NumericsError(
                    f"teacher {name} gave NaN or infinite logits for validation example "
                    f"{int(said.index_N[bad][0])}, before step 0: are its weights damaged?"
                )
            found[name] = {"accuracy": said.accuracy, **said.of_known()}
        return found

    def _build(self, heard: tuple[str, ...]) -> None:
        run, self.heard = self.request, heard
        dims = dataclasses.replace(
            self.dims,
            teachers=heard,
            teacher_maps={name: self.dims.teacher_maps[name] for name in heard},
        )
        objective = run.method.build(dims)
        split = run.machine.micro_batches, self.fabric.world_size
        if warning := parts_warning(self.student, objective, self._part, *split):
            self.display.warn(warning)
        self._set_hard_label(objective)
        self.pairs = objective.layers.pairs
        if self.pairs:
            self.display.say(pair_table(self.pairs, dims))
        compiled = run.machine.compiles(self.fabric.device.type, self.steps)
        size = -(-run.optimisation.batch_size // run.machine.micro_batches)
        layers = student_layers(objective, dims)
        views = min(self._part, 2), *self.input_spec.image_shape
        try_layers(self.student, objective, layers, views, self.fabric)
        self.module = DistillModule(
            self.student,
            objective,
            layers,
            compiled_for=size // self.fabric.world_size if compiled else 0,
        )
        self.loader = Loader(
            self.splits.train,
            run.optimisation.batch_size,
            recipe=run.augment or self.splits.train.augment,
            views=run.views or 0,
            seed=run.seed,
            view_seed=run.view_seed,
            shuffle=True,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            device=self.fabric.device,
            channels_last=self.channels_last,
            workers=run.machine.decoders,
        )
        self.store: Store | None = None
        self.source = self._make_source(objective.layers, dims)

    def _set_hard_label(self, objective: Objective) -> None:
        run, train = self.request, self.splits.train
        weights_C = None
        if run.class_weights is not None:
            weights_C = resolve_class_weights(run.class_weights, train.classes, train.labels_N)
            self.display.say(note_of(weights_C, train.classes))
        set_hard_label(objective, run.method.slug, weights_C, run.label_smoothing)

    def _make_source(self, layers: Layers, dims: Dims) -> AbstractTeacherSource:
        run = self.request
        if run.storage.store is None or not dims.teachers:
            said = {n: self.ensemble.teacher(n, layers.teachers.get(n, ())) for n in dims.teachers}
            return LiveTeachers(said, dims.classes)
        request = StoreRequest(
            run.to_json()["data"],
            self.loader.views,
            self.ensemble,
            run.machine,
            run.optimisation.batch_size,
            self.fabric,
            self.display,
        )
        views = [self.loader.view(epoch) for epoch in range(run.optimisation.epochs)]
        source, self.store = stored_teachers(request, run.storage, dims.teachers, layers, views)
        return source

    def carry_out(
        self, *, overwrite: bool = False, resume: bool = False, allowed: Allowed | None = None
    ) -> Record:
        """Train, measure, record; `allowed` is what may be other than a resumed run had it."""
        first = self.fabric.is_global_zero
        alone = only_writer(self.out) if first else contextlib.nullcontext()
        with alone, written_to(self.out, self.events and first) as self.record:
            allowed = allowed or Allowed()
            self._open(self.record, overwrite=overwrite, resume=resume, allowed=allowed)
            return self._carry_out(self.record, resume=resume, allowed=allowed)

    def _carry_out(self, record: Record, *, resume: bool, allowed: Allowed) -> Record:
        # Dropout and the like draw from the global generator.
        torch.manual_seed(self.request.seed + self.fabric.global_rank)
        training = self.make_training()
        if resume:
            training.resume()
            self._change(record, training, allowed)
        training.run()
        self._check_frozen()
        close(
            FinishedTraining(
                self.request,
                training,
                self.splits,
                self.ensemble,
                self.asked,
                self.heard,
                self.store,
            )
        )
        self.fabric.barrier()
        return record

    def make_training(self) -> Trainer:
        """The loop over the parts, at its first step."""
        return Trainer(
            self.fabric,
            self.module,
            self.source,
            self.loader,
            self.splits.validation,
            self.request.optimisation,
            self.request.machine,
            self.record,
            self.display,
            {name: info.sha256 for name, info in self.infos.items()},
            self.interrupt,
            self.splits.test if self.request.watch_test else None,
            known_ids(self.record.run) if self.record.path(RUN).is_file() else (),
        )

    def _open(self, record: Record, *, overwrite: bool, resume: bool, allowed: Allowed) -> None:
        content, teachers = self._now()
        if resume:
            self._check_same(record, content, teachers, allowed)
        elif self.fabric.is_global_zero:
            Record.create(self.out, overwrite=overwrite)
            record.write_json(TEACHERS, teachers)
            record.write_json(RUN, content)  # the last: with it there is a run to go on with
        self.fabric.barrier()

    def _now(self) -> tuple[Json, Sequence[Json]]:
        """What run.json and teachers.json say of the run as it is now."""
        content = {
            **self.request.to_json(),
            **({"pixels": pixels} if (pixels := self.splits.rule.to_json()) else {}),
            "fingerprint": self.splits.train.fingerprint(),
            "identity": self._identity(),
            **self._code(),
            "environment": _environment(),
        }
        content["id"] = run_id(content)
        return content, outcome.teacher_rows(self.infos, self.measured, self.pairs)

    def _identity(self) -> dict[str, str]:
        """What else decides the result and is found in the data."""
        parts = {"validation": self.splits.validation, "test": self.splits.test}
        found = {f"{name} split": part.fingerprint() for name, part in parts.items() if part}
        return {"view recipe": self.loader.views.recipe, **found}

    def _code(self) -> Json:
        """Digests of the user's sources, where there are any."""
        teachers = {name: dict(one.code) for name, one in self.infos.items() if one.code}
        parts: Json = {"student": dict(self.student.origin.code), "teachers": teachers}
        found = {name: part for name, part in parts.items() if part}
        return {"code": found} if found else {}

    def _check_same(
        self, record: Record, content: Json, teachers: Sequence[Json], allowed: Allowed
    ) -> None:
        """Refuse to go on with what is not the run that was started."""
        where, was = str(record.folder), record.run
        refuse_edited(where, was)
        complete = type(self.request).complete(was)
        if allowed.epochs is not None:
            complete["optimisation"]["epochs"] = allowed.epochs
        refuse_other_run(where, complete, content)
        refuse_other_teachers(where, record.teachers, teachers)
        if not allowed.code:
            refuse_other_code(where, was, content)
        if not self.fabric.is_global_zero:
            return
        record.sweep()
        if unknown_code(was, content):
            self.display.warn(
                f"{where} was started by an older version, which did not record the source code "
                "of networks: this version cannot check that it is unchanged"
            )
        for version in new_versions(was, content):
            self.display.warn(f"{version}: what follows may be rounded otherwise")

    def _change(self, record: Record, training: Trainer, allowed: Allowed) -> None:
        """Write down what is changed on purpose: not before the checkpoint was found to fit."""
        if self.fabric.is_global_zero:
            for line in write_changes(record, *self._now(), allowed):
                self.display.warn(line)
        self.fabric.barrier()
        training.state.run = known_ids(record.run)

    def _check_frozen(self) -> None:
        for name in self.ensemble.names:
            if not self.ensemble.unchanged(name):
                raise NumericsError(f"teacher {name} was changed by training: nothing kept")


def _environment() -> Json:
    """Versions and the command: what run.json keeps to explain a difference later."""
    return {
        "collegium": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "command": " ".join(sys.argv) if sys.argv[0].endswith("collegium") else "",
    }
