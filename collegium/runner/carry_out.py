"""Trains a prepared run in its folder, evaluates its student and completes its record."""

import contextlib
from pathlib import Path

import torch

from collegium.config.options import read_interval
from collegium.config.same_run import known_ids
from collegium.errors import NumericsError
from collegium.records.run_folder import RUN, TEACHERS, Record
from collegium.records.tensorboard import written_to
from collegium.runner.changes import Allowed, write_changes
from collegium.runner.finish import FinishedTraining, close
from collegium.runner.resume_check import check_same, describe_run
from collegium.runner.setup import PreparedRun
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.training.checkpoint_policy import CheckpointScheduler
from collegium.training.trainer import Identity, Trainer, TrainingData, make_trainer
from collegium.utils.lock import only_writer
from collegium.utils.signals import GracefulInterrupt


def carry_out(
    prepared: PreparedRun,
    out: Path,
    *,
    interrupt: GracefulInterrupt,
    events: bool = False,
    overwrite: bool = False,
    resume: Allowed | None = None,
) -> Record:
    """Train a prepared run, evaluate its student and write the record.

    Args:
        prepared: the run.
        out: the run folder.
        interrupt: knows whether the user wants to stop.
        events: write metrics for TensorBoard too.
        overwrite: replace a run that already exists in the folder.
        resume: continue the run in the folder; the value says what may have changed since. None to
            start a new run.

    Raises:
        RequestError: the folder holds another run.
        NumericsError: training gave a NaN or an infinity.
        KeyboardInterrupt: the user stopped the run.
    """
    first = prepared.runtime.first
    with (
        only_writer(out) if first else contextlib.nullcontext(),
        written_to(out, events and first) as record,
    ):
        if resume is not None:
            check_same(prepared, record, resume)
        elif first:
            _create(prepared, record, overwrite)
        prepared.runtime.fabric.barrier()
        # Dropout draws from the global generator.
        torch.manual_seed(prepared.run.seed + prepared.runtime.fabric.global_rank)
        trainer = trainer_of(prepared, record, interrupt)
        if resume is not None:
            trainer.resume()
            _write_changes(prepared, trainer, resume)
        trainer.run()
        _finish(prepared, trainer)
        return record


def _create(prepared: PreparedRun, record: Record, overwrite: bool) -> None:
    content, teachers = describe_run(prepared)
    Record.create(record.folder, overwrite=overwrite)
    record.write_json(TEACHERS, teachers)
    record.write_json(RUN, content)  # last: a folder with this file can be resumed


def trainer_of(prepared: PreparedRun, record: Record, interrupt: GracefulInterrupt) -> Trainer:
    """The training loop of a run, before its first step."""
    run, runtime, splits = prepared.run, prepared.runtime, prepared.splits
    every = read_interval(run.machine.checkpoint_every)
    hashes = {name: info.sha256 for name, info in prepared.teachers.ensemble.infos.items()}
    return make_trainer(
        runtime,
        TrainingData(prepared.loader, splits.validation, splits.test if run.watch_test else None),
        prepared.source,
        prepared.module,
        run.optimisation,
        CheckpointScheduler(record, every, runtime.fabric, interrupt),
        Identity(hashes, known_ids(record.run) if record.path(RUN).is_file() else ()),
    )


def _write_changes(prepared: PreparedRun, trainer: Trainer, allowed: Allowed) -> None:
    """Record what the user changed; called after the checkpoint was loaded."""
    if prepared.runtime.first:
        for line in write_changes(trainer.record, *describe_run(prepared), allowed):
            prepared.runtime.display.warn(line)
    prepared.runtime.fabric.barrier()
    trainer.state.run = known_ids(trainer.record.run)


def _finish(prepared: PreparedRun, trainer: Trainer) -> None:
    teachers = prepared.teachers
    _check_frozen(teachers.ensemble)
    close(
        FinishedTraining(
            prepared.run,
            trainer,
            prepared.splits,
            teachers.ensemble,
            teachers.predict_split,
            teachers.active,
            prepared.store,
        )
    )
    prepared.runtime.fabric.barrier()


def _check_frozen(ensemble: TeacherEnsemble) -> None:
    for name in ensemble.names:
        if not ensemble.unchanged(name):
            raise NumericsError(f"teacher {name} was changed by training: nothing kept")
