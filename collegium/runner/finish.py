"""The end of a run: its student is measured, and what was found is recorded."""

import json
from collections.abc import Callable
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
from collegium.records.run_folder import (
    EXAMPLES,
    PREDICTIONS,
    REPORT,
    STUDENT,
    SUMMARY,
    WATCHED,
    WEIGHTS,
    Json,
)
from collegium.report.page import write_page
from collegium.runner import final_evaluation as outcome
from collegium.runner.changes import in_words
from collegium.store import Store, StoredTeachers
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.training.trainer import Trainer
from collegium.utils.files import write_whole

Weights = tuple[Int[Tensor, " N"], Float[Tensor, "N T"]]


@dataclass(frozen=True)
class FinishedTraining:
    """A training after its last epoch, and what its student is measured with.

    Attributes:
        run: the request, with everything settled.
        training: its state is that of the last epoch.
        splits: the data.
        ensemble: every teacher.
        asked: gives what a teacher, by name, says of a split.
        heard: names of the teachers that the student hears.
        store: the store of teachers' answers; None where there is none.
    """

    run: Run
    training: Trainer
    splits: Splits
    ensemble: TeacherEnsemble
    asked: Callable[[str, ImageData], Predictions]
    heard: tuple[str, ...]
    store: Store | None = None

    @property
    def student(self) -> Network:
        """The trained student."""
        return self.training.module.student


def close(done: FinishedTraining) -> None:
    """Measure the student on the split results are reported on, and write it and the rest down.

    Called in every process; the first one measures and writes.
    """
    weights = _gather(done)
    if not done.training.fabric.is_global_zero:
        return
    seen = outcome.inspect_split(
        done.training.module,
        done.ensemble,
        done.asked,
        done.heard,
        done.splits.evaluation,
        done.training.fabric.device,
        done.training.fabric.autocast,
    )
    summary = _summary(done, seen) | outcome.weight_means(weights, done.heard)
    _note_test(done, seen, summary)
    record = done.training.record
    if weights is not None:
        record.write_arrays(WEIGHTS, _weight_arrays(done, weights))
    record.write_arrays(PREDICTIONS, outcome.predictions(seen))
    record.write_arrays(EXAMPLES, outcome.examples(seen, done.splits.evaluation))
    _save_student(done, summary)
    record.write_manifest(summary)
    record.write_json(SUMMARY, summary)
    write_page([record], record.path(REPORT))


def _gather(done: FinishedTraining) -> Weights | None:
    """Index and weights of the last epoch, over all processes, in the order of the index."""
    if done.training.weights is None:
        return None
    index, weights = done.training.weights
    everyone = done.training.loader.data.index_N.sort().values
    rows = weights.new_zeros(len(everyone), weights.shape[1], dtype=torch.float32)
    rows[torch.searchsorted(everyone, index)] = weights.float()
    if done.training.fabric.world_size > 1:  # each row is in one process, and 0 in the others
        rows = cast(Tensor, done.training.fabric.all_reduce(rows, reduce_op="sum"))
    return everyone.cpu(), rows.cpu()


def _weight_arrays(done: FinishedTraining, weights: Weights) -> dict[str, np.ndarray]:
    index_N, weights_NT = weights
    return {
        "index": index_N.numpy(),
        "labels": _labels(done.training.loader.data, index_N).numpy(),
        "weights": weights_NT.numpy(),
        "teachers": np.array(done.heard),
    }


def _labels(data: ImageData, index_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    order = data.index_N.cpu().argsort()
    places = torch.searchsorted(data.index_N.cpu()[order], index_N)
    return data.labels_N.cpu()[order][places]


def _summary(done: FinishedTraining, seen: outcome.EvaluationOutputs) -> Json:
    progress = done.training.state.progress
    images = done.run.optimisation.epochs * len(done.splits.train)
    changes = in_words(done.training.record.run.get(CHANGES, []))
    return {
        "method": done.run.method.slug,
        "split": done.splits.names()[-1],
        "accuracy_last": seen.student.accuracy,
        "accuracy_at_best_validation": _at_best(done),
        "best_epoch": progress.best_epoch if progress.best_epoch >= 0 else None,
        "ece": seen.student.ece,
        **outcome.agreement(seen),
        **outcome.accuracies(seen),
        "parameters": parameter_count(done.student),
        "seconds": progress.seconds,
        "teacher_seconds": progress.teacher_seconds,
        "images_per_s": images / max(progress.seconds, 1e-9),
        "inference_images_per_s": seen.images_per_s,
        "store_hits": _store_hits(done),
        **({"changes": changes} if changes else {}),
    }


def _at_best(done: FinishedTraining) -> float | None:
    """Accuracy with the weights that were best on validation; the last ones are put back."""
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


def _note_test(done: FinishedTraining, seen: outcome.EvaluationOutputs, summary: Json) -> None:
    """The test split's line of metrics.jsonl, and the best of those that were asked for."""
    if summary["split"] == "test":
        epochs = done.run.optimisation.epochs
        line = {"epoch": epochs - 1, "step": epochs * len(done.training.loader), "split": "test"}
        said = {"accuracy": seen.student.accuracy, "loss": seen.student.loss}
        done.training.record.append_metrics(line | said)
    if watched := done.training.record.metrics(WATCHED):
        summary["accuracy_best_test"] = max(line["accuracy"] for line in watched)


def _save_student(done: FinishedTraining, summary: Json) -> None:
    code = dict(done.student.origin.code)
    content = network_bytes(
        done.student,
        dataset=done.splits.train.name,
        top1=f"{summary['accuracy_last']:.6f}",
        split=str(summary["split"]),
        **({"code": json.dumps(code)} if code else {}),
    )
    write_whole(done.training.record.path(STUDENT), content)
