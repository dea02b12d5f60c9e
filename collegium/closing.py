"""The end of a run: its student is measured, and what was found is recorded."""

import json
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from collegium import outcome
from collegium.data import ImageData
from collegium.files import write_whole
from collegium.models.network import parameter_count
from collegium.models.state import snapshot
from collegium.models.weights import network_bytes
from collegium.record import (
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
from collegium.teachers.store import StoredTeachers
from collegium.training.changes import in_words
from collegium.training.evaluate import predict
from collegium.training.identity import CHANGES
from collegium.training.loop import Training

if TYPE_CHECKING:
    from collegium.session import Session

Weights = tuple[Int[Tensor, " N"], Float[Tensor, "N T"]]


def close(session: "Session", training: Training) -> None:
    """Measure the student on the split results are reported on, and write it and the rest down.

    Called in every process; the first one measures and writes.
    """
    weights = _gather(session, training)
    if not session.fabric.is_global_zero:
        return
    seen = outcome.inspect_split(
        session.learner,
        session.faculty,
        session.asked,
        session.heard,
        session.splits.evaluation,
        session.fabric.device,
        session.fabric.autocast,
    )
    summary = _summary(session, training, seen) | outcome.weight_means(weights, session.heard)
    _note_test(session, seen, summary)
    record = session.record
    if weights is not None:
        record.write_arrays(WEIGHTS, _weight_arrays(session, weights))
    record.write_arrays(PREDICTIONS, outcome.predictions(seen))
    record.write_arrays(EXAMPLES, outcome.examples(seen, session.splits.evaluation))
    _save_student(session, summary)
    record.write_manifest(summary)
    record.write_json(SUMMARY, summary)
    write_page([record], record.path(REPORT))


def _gather(session: "Session", training: Training) -> Weights | None:
    """Index and weights of the last epoch, over all processes, in the order of the index."""
    if training.weights is None:
        return None
    index, weights = training.weights
    everyone = session.loader.data.index_N.sort().values
    rows = weights.new_zeros(len(everyone), weights.shape[1], dtype=torch.float32)
    rows[torch.searchsorted(everyone, index)] = weights.float()
    if session.fabric.world_size > 1:  # each row is in one process, and 0 in the others
        rows = cast(Tensor, session.fabric.all_reduce(rows, reduce_op="sum"))
    return everyone.cpu(), rows.cpu()


def _weight_arrays(session: "Session", weights: Weights) -> dict[str, np.ndarray]:
    index_N, weights_NT = weights
    return {
        "index": index_N.numpy(),
        "labels": _labels(session.loader.data, index_N).numpy(),
        "weights": weights_NT.numpy(),
        "teachers": np.array(session.heard),
    }


def _labels(data: ImageData, index_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    order = data.index_N.cpu().argsort()
    places = torch.searchsorted(data.index_N.cpu()[order], index_N)
    return data.labels_N.cpu()[order][places]


def _summary(session: "Session", training: Training, seen: outcome.Inspection) -> Json:
    progress = training.state.progress
    images = session.request.optimisation.epochs * len(session.splits.train)
    changes = in_words(session.record.run.get(CHANGES, []))
    return {
        "method": session.request.method.slug,
        "split": session.splits.names()[-1],
        "accuracy_last": seen.student.accuracy,
        "accuracy_at_best_validation": _at_best(session, training),
        "best_epoch": progress.best_epoch if progress.best_epoch >= 0 else None,
        "ece": seen.student.ece,
        **outcome.agreement(seen),
        **outcome.accuracies(seen),
        "parameters": parameter_count(session.student),
        "seconds": progress.seconds,
        "teacher_seconds": progress.teacher_seconds,
        "images_per_s": images / max(progress.seconds, 1e-9),
        "inference_images_per_s": seen.images_per_s,
        "store_hits": _store_hits(session),
        **({"changes": changes} if changes else {}),
    }


def _at_best(session: "Session", training: Training) -> float | None:
    """Accuracy with the weights that were best on validation; the last ones are put back."""
    if not training.state.best:
        return None
    body, fabric = session.student.body, session.fabric
    last = snapshot(body)
    body.load_state_dict(training.state.best)
    data = session.splits.evaluation
    found = predict(session.student, data, device=fabric.device, precision=fabric.autocast)
    body.load_state_dict(last)
    return found.accuracy


def _store_hits(session: "Session") -> float:
    if not isinstance(session.source, StoredTeachers) or session.store is None:
        return 0.0
    tally = session.source.tally
    if not tally.asked:
        return 0.0
    session.store.note_use(tally.asked, tally.computed, tally.seconds)
    return tally.hits


def _note_test(session: "Session", seen: outcome.Inspection, summary: Json) -> None:
    """The test split's line of metrics.jsonl, and the best of those that were asked for."""
    if summary["split"] == "test":
        epochs = session.request.optimisation.epochs
        line = {"epoch": epochs - 1, "step": epochs * len(session.loader), "split": "test"}
        said = {"accuracy": seen.student.accuracy, "loss": seen.student.loss}
        session.record.append_metrics(line | said)
    if watched := session.record.metrics(WATCHED):
        summary["accuracy_best_test"] = max(line["accuracy"] for line in watched)


def _save_student(session: "Session", summary: Json) -> None:
    code = dict(session.student.origin.code)
    content = network_bytes(
        session.student,
        dataset=session.splits.train.name,
        top1=f"{summary['accuracy_last']:.6f}",
        split=str(summary["split"]),
        **({"code": json.dumps(code)} if code else {}),
    )
    write_whole(session.record.path(STUDENT), content)
