"""The final evaluation of a run: its student and teachers on the evaluation split."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from collegium.data import ImageData
from collegium.evaluation.predict import Predictions, collect
from collegium.records.results import TeacherRecord
from collegium.training.prepared import PreparedRun
from collegium.types import Batch, TeacherOutputs

SHOWN = 8
"""Number of examples of each kind that are kept."""


@dataclass(frozen=True)
class EvaluationOutputs:
    """The outputs of all networks for the evaluation split.

    Attributes:
        student: predictions of the student.
        teachers: predictions of every teacher by name, including those that training did not use.
        weights_NT: the weights that the active teachers would get for each example.
        images_per_s: inference speed of the student, without the weighting.
    """

    student: Predictions
    teachers: Mapping[str, Predictions]
    weights_NT: Float[Tensor, "N _"]
    images_per_s: float

    @cached_property
    def teachers_NTC(self) -> Float[Tensor, "N T C"]:
        """Logits of every teacher."""
        return _stacked(self.teachers, tuple(self.teachers), self.student.logits_NC)


def _stacked(
    found: Mapping[str, Predictions], names: Sequence[str], like_NC: Tensor
) -> Float[Tensor, "N T C"]:
    if not names:
        return like_NC.new_empty(len(like_NC), 0, like_NC.shape[1])
    return torch.stack([found[name].logits_NC for name in names], dim=1)


@torch.no_grad()
def evaluate_outputs(prepared: PreparedRun) -> EvaluationOutputs:
    """Run student, weighting and all teachers over the plain views of the evaluation split."""
    module, teachers, fabric = prepared.module, prepared.teachers, prepared.runtime.fabric
    ensemble, active, data = teachers.ensemble, teachers.active, prepared.splits.evaluation
    predictions = {name: teachers.predict_split(name, data) for name in ensemble.names}
    groups_TC = ensemble.groups(active, len(data.classes))
    groups_TC = None if groups_TC is None else groups_TC.to(fabric.device)
    logits_NTC = _stacked(predictions, active, torch.empty(len(data), len(data.classes)))
    weights: list[Tensor] = []  # (B, T) of each batch so far
    seconds: list[float] = []  # in the student, without the weighting

    def forward(batch: Batch) -> Tensor:
        started = time.perf_counter()
        with fabric.autocast():
            student = module.forward_student(batch.images_BDHW)
        logits_BC = student.logits_BC.cpu()
        seconds.append(time.perf_counter() - started)
        done = sum(map(len, weights))
        logits_BTC = logits_NTC[done : done + len(batch)].to(batch.labels_B.device)
        outputs = TeacherOutputs(logits_BTC, groups_TC=groups_TC)
        weights.append(module.objective.weigh(student, outputs, batch.labels_B).cpu())
        return logits_BC

    module.eval()
    student = collect(forward, data, batch_size=250, device=fabric.device)
    speed = len(data) / max(sum(seconds), 1e-9)
    weights_NT = torch.cat(weights).float()
    return EvaluationOutputs(student, predictions, weights_NT, speed)


def predictions(outputs: EvaluationOutputs, prepared: PreparedRun) -> dict[str, Any]:
    """The arrays of predictions.npz; -1 where a teacher does not know the example's class."""
    found = outputs.teachers.values()
    classes = [torch.where(one.known_N, one.classes_N, -1) for one in found]
    none_TN = torch.empty(0, len(outputs.student.labels_N), dtype=torch.int64)
    return {
        "index": outputs.student.index_N.numpy(),
        "labels": outputs.student.labels_N.numpy(),
        "student": outputs.student.classes_N.numpy(),
        "teachers": (torch.stack(classes) if classes else none_TN).numpy(),
        "classes": np.array(prepared.splits.evaluation.classes, dtype=str),
        "heard": np.array(prepared.teachers.active, dtype=str),
        "weights": outputs.weights_NT.numpy(),
    }


def examples(outputs: EvaluationOutputs, data: ImageData) -> dict[str, Any]:
    """The arrays of examples.npz: the first `SHOWN` examples by each of three rules.

    "contested": the teachers' probabilities differ most. "corrected": the student's probability of
    the true class exceeds the teachers' mean most. "worst": the student's probability of the true
    class is lowest.
    """
    chosen = {rule: order[:SHOWN] for rule, order in _rules(outputs).items()}
    rows = torch.cat(list(chosen.values()))
    rules = [rule for rule, order in chosen.items() for _ in range(len(order))]
    images = data.pixels(rows.to(data.labels_N.device)).cpu()
    if images.is_floating_point():
        images = (images * 255).round().to(torch.uint8)
    return {
        "index": outputs.student.index_N[rows].numpy(),
        "images": images.numpy(),
        "labels": outputs.student.labels_N[rows].numpy(),
        "teachers": outputs.teachers_NTC[rows].softmax(dim=2).numpy(),
        "student": outputs.student.logits_NC[rows].softmax(dim=1).numpy(),
        "weights": outputs.weights_NT[rows].numpy(),
        "rule": np.array(rules),
    }


def _rules(outputs: EvaluationOutputs) -> Mapping[str, Tensor]:
    labels_N1 = outputs.student.labels_N[:, None]
    student_N = outputs.student.logits_NC.softmax(dim=1).gather(1, labels_N1).squeeze(1)
    if not outputs.teachers:
        return {"worst": student_N.argsort(stable=True)}
    probabilities_NTC = outputs.teachers_NTC.softmax(dim=2)
    spread_N = probabilities_NTC.var(dim=1, correction=0).sum(dim=1)
    true_NT = probabilities_NTC.gather(2, labels_N1[:, None].expand(-1, len(outputs.teachers), 1))
    # The mean leaves out teachers that do not know the class of the example.
    known_NT = torch.stack([found.known_N for found in outputs.teachers.values()], dim=1)
    mean_N = true_NT.squeeze(2).masked_fill(~known_NT, torch.nan).nanmean(dim=1)
    helped_N = torch.where(known_NT.any(dim=1), student_N - mean_N, 0)
    return {
        "contested": spread_N.argsort(descending=True, stable=True),
        "corrected": helped_N.argsort(descending=True, stable=True),
        "worst": student_N.argsort(stable=True),
    }


def teacher_rows(prepared: PreparedRun) -> list[TeacherRecord]:
    """The content of teachers.json."""
    teachers, pairs = prepared.teachers, prepared.module.objective.layers.pairs
    return [
        TeacherRecord(
            name=name,
            spec=info.spec,
            sha256=info.sha256,
            classes=list(info.classes),
            mean=list(info.mean),
            std=list(info.std),
            resizing=info.resizing,
            parameters=info.parameters,
            changes=list(info.changes),
            licence=info.licence,
            **teachers.measured.get(name, {}),
            labels=None if info.labels is None else info.labels.groups_by_name(),
            hints=[str(pair) for pair in pairs if pair.teacher == name],
            code=dict(info.code) or None,
        )
        for name, info in teachers.ensemble.infos.items()
    ]
