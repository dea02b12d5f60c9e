"""Trains a prepared run in its folder, evaluates its student and completes its record."""

import contextlib
import json
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from collegium.config.found import CHANGES
from collegium.config.same_run import known_ids
from collegium.errors import NumericsError
from collegium.evaluation.predict import predict
from collegium.models.network import Network, parameter_count
from collegium.models.state import snapshot
from collegium.models.weights import network_bytes
from collegium.records import run_folder
from collegium.records.results import Summary
from collegium.records.run_folder import RUN, Record
from collegium.records.tensorboard import written_to
from collegium.report.page import write_page
from collegium.runner import final_evaluation
from collegium.runner.final_evaluation import EvaluationOutputs
from collegium.runner.resume_check import Allowed, check_same, describe_run, in_words, write_changes
from collegium.store import StoredTeachers
from collegium.training.epoch_log import measured_line
from collegium.training.prepared import PreparedRun
from collegium.training.trainer import Trainer
from collegium.utils.files import write_whole
from collegium.utils.lock import only_writer
from collegium.utils.signals import GracefulInterrupt

Weights = tuple[Int[Tensor, " N"], Float[Tensor, "N T"]]
"""Index of training examples in ascending order, and each active teacher's weight for them."""


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
    runtime = prepared.runtime
    with (
        only_writer(out) if runtime.first else contextlib.nullcontext(),
        written_to(out, events and runtime.first) as record,
    ):
        if resume is not None:
            check_same(prepared, record, resume)
        elif runtime.first:
            content, teachers = describe_run(prepared)
            Record.create(out, overwrite=overwrite)
            record.write_json(run_folder.TEACHERS, teachers)
            record.write_json(RUN, content)  # last: a folder with this file can be resumed
        runtime.fabric.barrier()
        # Dropout draws from the global generator.
        torch.manual_seed(prepared.run.seed + runtime.fabric.global_rank)
        trainer = Trainer(prepared, record, interrupt)
        if resume is not None:
            trainer.resume()
            _write_changes(trainer, resume)
        trainer.run()
        _check_frozen(prepared)
        close(trainer)
        runtime.fabric.barrier()
        return record


def _write_changes(trainer: Trainer, allowed: Allowed) -> None:
    """Record what the user changed; called after the checkpoint was loaded."""
    if trainer.runtime.first:
        for line in write_changes(trainer.prepared, trainer.record, allowed):
            trainer.runtime.display.warn(line)
    trainer.fabric.barrier()
    trainer.state.run = known_ids(trainer.record.run)


def _check_frozen(prepared: PreparedRun) -> None:
    ensemble = prepared.teachers.ensemble
    for name in ensemble.names:
        if not ensemble.unchanged(name):
            raise NumericsError(f"teacher {name} was changed by training: nothing kept")


def close(trainer: Trainer) -> None:
    """Evaluate the student on the evaluation split, and write the remaining files of the record.

    Every process must call this; the first one evaluates and writes.
    """
    weights = _gather(trainer)
    if not trainer.runtime.first:
        return
    prepared, record = trainer.prepared, trainer.record
    splits = prepared.splits
    outputs = final_evaluation.evaluate_outputs(prepared)
    if splits.names()[-1] == "test":
        epochs = trainer.options.epochs
        steps = epochs * len(trainer.loader)
        record.append_metrics(measured_line(outputs.student, "test", epochs - 1, steps))
    summary = _summary(trainer, outputs, weights)
    if weights is not None:
        record.write_arrays(run_folder.WEIGHTS, _weight_arrays(prepared, weights))
    record.write_arrays(run_folder.PREDICTIONS, final_evaluation.predictions(outputs, prepared))
    examples = final_evaluation.examples(outputs, splits.evaluation)
    record.write_arrays(run_folder.EXAMPLES, examples)
    _save_student(prepared.module.student, splits.train.name, summary, record)
    record.write_manifest(summary)
    record.write_json(run_folder.SUMMARY, summary)
    write_page([record], record.path(run_folder.REPORT))


def _gather(trainer: Trainer) -> Weights | None:
    """Index and weights of the last epoch from all processes, in ascending order of the index."""
    if trainer.weights is None:
        return None
    index, weights = trainer.weights
    everyone = trainer.loader.data.index_N.sort().values
    rows = weights.new_zeros(len(everyone), weights.shape[1], dtype=torch.float32)
    rows[torch.searchsorted(everyone, index)] = weights.float()
    # One process has the row, the others have 0.
    rows = cast(Tensor, trainer.fabric.all_reduce(rows, reduce_op="sum"))
    return everyone.cpu(), rows.cpu()


def _weight_arrays(prepared: PreparedRun, weights: Weights) -> dict[str, np.ndarray]:
    data = prepared.loader.data
    index_N, order = data.index_N.cpu().sort()
    places = order[torch.searchsorted(index_N, weights[0])]
    return {
        "index": weights[0].numpy(),
        "labels": data.labels_N.cpu()[places].numpy(),
        "weights": weights[1].numpy(),
        "teachers": np.array(prepared.teachers.active),
    }


def _summary(trainer: Trainer, outputs: EvaluationOutputs, weights: Weights | None) -> Summary:
    progress, prepared, record = trainer.state.progress, trainer.prepared, trainer.record
    images = trainer.options.epochs * len(prepared.splits.train)
    student, teachers = outputs.student, outputs.teachers.items()
    known = {name: found.of_known().get("accuracy_known") for name, found in teachers}
    means = [] if weights is None else weights[1].double().mean(dim=0).tolist()
    watched = [line.accuracy for line in record.metrics(run_folder.WATCHED)]
    return Summary(
        method=prepared.run.method.slug,
        split=prepared.splits.names()[-1],
        accuracy_last=student.accuracy,
        accuracy_at_best_validation=_at_best(trainer),
        best_epoch=progress.best_epoch if progress.best_epoch >= 0 else None,
        ece=student.ece,
        agreement={name: student.agreement(found) for name, found in teachers},
        accuracy={name: found.accuracy for name, found in teachers},
        accuracy_known={name: value for name, value in known.items() if value is not None},
        parameters=parameter_count(prepared.module.student),
        seconds=progress.seconds,
        teacher_seconds=progress.teacher_seconds,
        images_per_s=images / max(progress.seconds, 1e-9),
        inference_images_per_s=outputs.images_per_s,
        store_hits=_store_hits(prepared),
        changes=in_words(record.run.get(CHANGES, [])) or None,
        weights=dict(zip(prepared.teachers.active, means, strict=True)),
        accuracy_best_test=max(watched, default=None),
    )


def _at_best(trainer: Trainer) -> float | None:
    """Accuracy with the weights of the best epoch; restores the last weights afterwards."""
    if not trainer.state.best:
        return None
    student, fabric = trainer.module.student, trainer.fabric
    last = snapshot(student.body)
    student.body.load_state_dict(trainer.state.best)
    data = trainer.prepared.splits.evaluation
    found = predict(student, data, device=fabric.device, precision=fabric.autocast)
    student.body.load_state_dict(last)
    return found.accuracy


def _store_hits(prepared: PreparedRun) -> float:
    source, store = prepared.source, prepared.store
    if not isinstance(source, StoredTeachers) or store is None or not source.stats.requested:
        return 0.0
    stats = source.stats
    store.log_usage(stats.requested, stats.computed, stats.seconds)
    return stats.hits


def _save_student(student: Network, dataset: str, summary: Summary, record: Record) -> None:
    code = dict(student.origin.code)
    content = network_bytes(
        student,
        dataset=dataset,
        top1=f"{summary.accuracy_last:.6f}",
        split=summary.split,
        **({"code": json.dumps(code)} if code else {}),
    )
    write_whole(record.path(run_folder.STUDENT), content)
