"""The end of a run: evaluates the student, and writes the results to the record."""

import json
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from collegium.config.found import CHANGES
from collegium.config.run import Run
from collegium.data import ImageData, Splits
from collegium.evaluation.predict import Predictions, predict
from collegium.models.network import Network, parameter_count
from collegium.models.state import snapshot
from collegium.models.weights import network_bytes
from collegium.records.results import MetricsLine, Summary
from collegium.records.run_folder import (
    EXAMPLES,
    PREDICTIONS,
    REPORT,
    STUDENT,
    SUMMARY,
    WATCHED,
    WEIGHTS,
)
from collegium.report.page import write_page
from collegium.runner import final_evaluation
from collegium.runner.changes import in_words
from collegium.runner.final_evaluation import EvaluationOutputs, PredictSplit
from collegium.store import Store, StoredTeachers
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.training.trainer import Trainer
from collegium.utils.files import write_whole

Weights = tuple[Int[Tensor, " N"], Float[Tensor, "N T"]]


@dataclass(frozen=True)
class FinishedTraining:
    """A training after its last epoch, and everything the final evaluation needs.

    Attributes:
        run: the request, with every default resolved.
        training: the trainer, with its state after the last epoch.
        splits: the data.
        ensemble: all teachers.
        predict_split: returns the predictions of a teacher, by name, on a split.
        active: names of the teachers that training used.
        store: the store of teacher outputs; None if the run has none.
    """

    run: Run
    training: Trainer
    splits: Splits
    ensemble: TeacherEnsemble
    predict_split: PredictSplit
    active: tuple[str, ...]
    store: Store | None = None

    @property
    def student(self) -> Network:
        """The trained student."""
        return self.training.module.student


def close(done: FinishedTraining) -> None:
    """Evaluate the student on the evaluation split, and write the remaining files of the record.

    Every process must call this; the first one evaluates and writes.
    """
    weights = _gather(done)
    fabric, record = done.training.fabric, done.training.record
    if not fabric.is_global_zero:
        return
    data, module = done.splits.evaluation, done.training.module
    outputs = final_evaluation.evaluate_outputs(
        module, done.ensemble, done.predict_split, done.active, data, fabric
    )
    if done.splits.names()[-1] == "test":
        record.append_metrics(_test_line(done, outputs.student))
    summary = _summary(done, outputs, weights)
    if weights is not None:
        record.write_arrays(WEIGHTS, _weight_arrays(done, weights))
    record.write_arrays(PREDICTIONS, final_evaluation.predictions(outputs))
    record.write_arrays(EXAMPLES, final_evaluation.examples(outputs, data))
    _save_student(done, summary)
    record.write_manifest(summary)
    record.write_json(SUMMARY, summary)
    write_page([record], record.path(REPORT))


def _gather(done: FinishedTraining) -> Weights | None:
    """Index and weights of the last epoch from all processes, in ascending order of the index."""
    if done.training.weights is None:
        return None
    index, weights = done.training.weights
    everyone = done.training.loader.data.index_N.sort().values
    rows = weights.new_zeros(len(everyone), weights.shape[1], dtype=torch.float32)
    rows[torch.searchsorted(everyone, index)] = weights.float()
    if done.training.fabric.world_size > 1:  # one process has the row, the others have 0
        rows = cast(Tensor, done.training.fabric.all_reduce(rows, reduce_op="sum"))
    return everyone.cpu(), rows.cpu()


def _weight_arrays(done: FinishedTraining, weights: Weights) -> dict[str, np.ndarray]:
    index_N, weights_NT = weights
    return {
        "index": index_N.numpy(),
        "labels": _labels(done.training.loader.data, index_N).numpy(),
        "weights": weights_NT.numpy(),
        "teachers": np.array(done.active),
    }


def _labels(data: ImageData, index_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    order = data.index_N.cpu().argsort()
    places = torch.searchsorted(data.index_N.cpu()[order], index_N)
    return data.labels_N.cpu()[order][places]


def _summary(
    done: FinishedTraining, outputs: EvaluationOutputs, weights: Weights | None
) -> Summary:
    progress, record = done.training.state.progress, done.training.record
    images = done.run.optimisation.epochs * len(done.splits.train)
    teachers = outputs.teachers.items()
    known = {name: found.of_known().get("accuracy_known") for name, found in teachers}
    watched = [line.accuracy for line in record.metrics(WATCHED)]
    return Summary(
        method=done.run.method.slug,
        split=done.splits.names()[-1],
        accuracy_last=outputs.student.accuracy,
        accuracy_at_best_validation=_at_best(done),
        best_epoch=progress.best_epoch if progress.best_epoch >= 0 else None,
        ece=outputs.student.ece,
        agreement={name: outputs.student.agreement(found) for name, found in teachers},
        accuracy={name: found.accuracy for name, found in teachers},
        accuracy_known={name: value for name, value in known.items() if value is not None},
        parameters=parameter_count(done.student),
        seconds=progress.seconds,
        teacher_seconds=progress.teacher_seconds,
        images_per_s=images / max(progress.seconds, 1e-9),
        inference_images_per_s=outputs.images_per_s,
        store_hits=_store_hits(done),
        changes=in_words(record.run.get(CHANGES, [])) or None,
        weights=_weight_means(done, weights),
        accuracy_best_test=max(watched, default=None),
    )


def _weight_means(done: FinishedTraining, weights: Weights | None) -> dict[str, float]:
    """Mean weight of each active teacher over the last epoch."""
    if weights is None:
        return {}
    means = weights[1].double().mean(dim=0).tolist()
    return dict(zip(done.active, means, strict=True))


def _at_best(done: FinishedTraining) -> float | None:
    """Accuracy with the weights of the best epoch; restores the last weights afterwards."""
    if not done.training.state.best:
        return None
    body, fabric = done.student.body, done.training.fabric
    last = snapshot(body)
    body.load_state_dict(done.training.state.best)
    data = done.splits.evaluation
    found = predict(done.student, data, device=fabric.device, precision=fabric.autocast)
    body.load_state_dict(last)
    return found.accuracy


def _store_hits(done: FinishedTraining) -> float:
    if not isinstance(done.training.teachers, StoredTeachers) or done.store is None:
        return 0.0
    stats = done.training.teachers.stats
    if not stats.asked:
        return 0.0
    done.store.log_usage(stats.asked, stats.computed, stats.seconds)
    return stats.hits


def _test_line(done: FinishedTraining, student: Predictions) -> MetricsLine:
    """The test split's line of metrics.jsonl."""
    epochs, steps = done.run.optimisation.epochs, len(done.training.loader)
    return MetricsLine(
        epoch=epochs - 1,
        step=epochs * steps,
        split="test",
        accuracy=student.accuracy,
        loss=student.loss,
    )


def _save_student(done: FinishedTraining, summary: Summary) -> None:
    code = dict(done.student.origin.code)
    content = network_bytes(
        done.student,
        dataset=done.splits.train.name,
        top1=f"{summary.accuracy_last:.6f}",
        split=summary.split,
        **({"code": json.dumps(code)} if code else {}),
    )
    write_whole(done.training.record.path(STUDENT), content)
