"""What is measured when a run is over: the summary, predictions and examples of its record."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from collegium.data import ImageData, Loader
from collegium.evaluation.predict import Predictions
from collegium.teachers.ensemble import TeacherEnsemble, TeacherInfo
from collegium.teachers.label_map import LabelMap
from collegium.teachers.teacher import Precision
from collegium.training.module import DistillModule
from collegium.types import HintPair, TeacherOutputs

SHOWN = 8
"""Examples of each kind that are kept."""


@dataclass(frozen=True)
class EvaluationOutputs:
    """Everything said about an evaluation split, once.

    Attributes:
        student: the student's logits.
        teachers_NTC: every teacher's logits, heard or not.
        weights_NT: what the heard teachers would get of each example.
        teachers: names along T of `teachers_NTC`.
        heard: names along T of `weights_NT`.
        labels: for each teacher by name how its classes are the student's, or None.
        classes: names along C.
        images_per_s: how fast the student answered, the weighting left out.
    """

    student: Predictions
    teachers_NTC: Float[Tensor, "N T C"]
    weights_NT: Float[Tensor, "N _"]
    teachers: tuple[str, ...]
    heard: tuple[str, ...]
    labels: Mapping[str, LabelMap | None]
    classes: tuple[str, ...]
    images_per_s: float

    def teacher(self, name: str) -> Predictions:
        """One teacher's logits."""
        logits_NC = self.teachers_NTC[:, self.teachers.index(name)]
        said = self.student
        return Predictions(logits_NC, said.labels_N, said.index_N, self.labels[name])


@torch.no_grad()
def inspect_split(
    module: DistillModule,
    ensemble: TeacherEnsemble,
    asked: Callable[[str, ImageData], Predictions],
    heard: tuple[str, ...],
    data: ImageData,
    device: torch.device,
    precision: Precision,
) -> EvaluationOutputs:
    """Run student and weighting over plain views of a split, beside what teachers say of it.

    Args:
        module: the student and its objective.
        ensemble: the teachers, heard or not.
        asked: gives what a teacher, by name, says of a split.
        heard: names of those the student hears.
        data: the split.
        device: where the student runs.
        precision: what it runs in.
    """
    answers_NTC = torch.empty(len(data), 0, len(data.classes))
    if ensemble.names:
        answers_NTC = torch.stack([asked(name, data).logits_NC for name in ensemble.names], dim=1)
    columns = [ensemble.names.index(name) for name in heard]
    groups_TC = ensemble.groups(heard, len(data.classes))
    groups_TC = None if groups_TC is None else groups_TC.to(device)
    module.eval()
    rows: list[tuple[Tensor, Tensor]] = []
    place, seconds = 0, 0.0
    for batch in Loader(data, 250, device=device).epoch(0):
        said_BTC = answers_NTC[place : place + len(batch), columns].to(device)
        place += len(batch)
        started = time.perf_counter()
        with precision():
            student = module.forward_student(batch.images_BDHW)
        logits_BC = student.logits_BC.cpu()
        seconds += time.perf_counter() - started
        teachers = TeacherOutputs(said_BTC, groups_TC=groups_TC)
        weights_BT = module.objective.weigh(student, teachers, batch.labels_B)
        rows.append((logits_BC, weights_BT.cpu()))
    logits, weights = (torch.cat(parts) for parts in zip(*rows, strict=True))
    student_said = Predictions(logits, data.labels_N.cpu(), data.index_N.cpu())
    labels = {name: ensemble.infos[name].labels for name in ensemble.names}
    return EvaluationOutputs(
        student_said,
        answers_NTC,
        weights.float(),
        ensemble.names,
        heard,
        labels,
        data.classes,
        len(data) / max(seconds, 1e-9),
    )


def predictions(seen: EvaluationOutputs) -> dict[str, Any]:
    """The arrays of predictions.npz; -1 where a teacher does not know the example's class."""
    said = [seen.teacher(name) for name in seen.teachers]
    classes = [torch.where(found.known_N, found.classes_N, -1) for found in said]
    nobody_TN = torch.empty(0, len(seen.student.labels_N), dtype=torch.int64)
    return {
        "index": seen.student.index_N.numpy(),
        "labels": seen.student.labels_N.numpy(),
        "student": seen.student.classes_N.numpy(),
        "teachers": (torch.stack(classes) if classes else nobody_TN).numpy(),
        "classes": np.array(seen.classes, dtype=str),
        "heard": np.array(seen.heard, dtype=str),
        "weights": seen.weights_NT.numpy(),
    }


def agreement(seen: EvaluationOutputs) -> dict[str, float]:
    """For each teacher, how often the student gives the same class, 0..1; where it knows it."""
    found = {}
    for name in seen.teachers:
        said = seen.teacher(name)
        same_N = said.names(seen.student.classes_N)
        count = int(said.known_N.sum())
        found[f"agreement.{name}"] = int((same_N & said.known_N).sum()) / max(count, 1)
    return found


def accuracies(seen: EvaluationOutputs) -> dict[str, float]:
    """For each teacher `accuracy.NAME`; `accuracy_known.NAME` too where it knows but some."""
    found = {}
    for name in seen.teachers:
        said = seen.teacher(name)
        found[f"accuracy.{name}"] = said.accuracy
        if "accuracy_known" in (known := said.of_known()):
            found[f"accuracy_known.{name}"] = known["accuracy_known"]
    return found


def examples(seen: EvaluationOutputs, data: ImageData) -> dict[str, Any]:
    """The arrays of examples.npz: the most contested, the best corrected, the worst."""
    chosen = {rule: order[:SHOWN] for rule, order in _rules(seen).items()}
    rows = torch.cat(list(chosen.values()))
    rules = [rule for rule, order in chosen.items() for _ in range(len(order))]
    images = data.pixels(rows.to(data.labels_N.device)).cpu()
    if images.is_floating_point():
        images = (images * 255).round().to(torch.uint8)
    return {
        "index": seen.student.index_N[rows].numpy(),
        "images": images.numpy(),
        "labels": seen.student.labels_N[rows].numpy(),
        "teachers": seen.teachers_NTC[rows].softmax(dim=2).numpy(),
        "student": seen.student.logits_NC[rows].softmax(dim=1).numpy(),
        "weights": seen.weights_NT[rows].numpy(),
        "rule": np.array(rules),
    }


def _rules(seen: EvaluationOutputs) -> Mapping[str, Tensor]:
    labels_N1 = seen.student.labels_N[:, None]
    student_N = seen.student.logits_NC.softmax(dim=1).gather(1, labels_N1).squeeze(1)
    if not seen.teachers:
        return {"worst": student_N.argsort(stable=True)}
    probabilities_NTC = seen.teachers_NTC.softmax(dim=2)
    spread_N = probabilities_NTC.var(dim=1, correction=0).sum(dim=1)
    true_NT = probabilities_NTC.gather(2, labels_N1[:, None].expand(-1, len(seen.teachers), 1))
    # Nobody is corrected where it does not know the class.
    known_NT = torch.stack([seen.teacher(name).known_N for name in seen.teachers], dim=1)
    sum_N = torch.where(known_NT, true_NT.squeeze(2), 0).sum(dim=1)
    helped_N = student_N - torch.where(
        known_NT.any(dim=1), sum_N / known_NT.sum(dim=1).clamp_min(1), student_N
    )
    return {
        "contested": spread_N.argsort(descending=True, stable=True),
        "corrected": helped_N.argsort(descending=True, stable=True),
        "worst": student_N.argsort(stable=True),
    }


def teacher_rows(
    infos: Mapping[str, TeacherInfo],
    measured: Mapping[str, Mapping[str, Any]],
    pairs: Sequence[HintPair],
) -> list[dict[str, Any]]:
    """The content of teachers.json."""
    return [
        {
            "name": name,
            "spec": info.spec,
            "sha256": info.sha256,
            "classes": list(info.classes),
            "mean": list(info.mean),
            "std": list(info.std),
            "resizing": info.resizing,
            "parameters": info.parameters,
            "changes": list(info.changes),
            "licence": info.licence,
            **measured.get(name, {}),
            **({} if info.labels is None else {"labels": info.labels.groups_by_name()}),
            "hints": [str(pair) for pair in pairs if pair.teacher == name],
            **({"code": dict(info.code)} if info.code else {}),
        }
        for name, info in infos.items()
    ]


def weight_means(
    index_weights: tuple[Tensor, Tensor] | None, names: Sequence[str]
) -> dict[str, float]:
    """Mean weight of each heard teacher over the last epoch."""
    if index_weights is None:
        return {}
    means = index_weights[1].double().mean(dim=0).tolist()
    return {f"weights.{name}": mean for name, mean in zip(names, means, strict=True)}
