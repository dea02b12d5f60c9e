"""Run folders written by hand: a report knows nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collegium.records.run_folder import (
    EXAMPLES,
    PREDICTIONS,
    RUN,
    SUMMARY,
    TEACHERS,
    WEIGHTS,
    Record,
)

Folder = Callable[..., Record]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Writes the folder of a finished run, with drawn numbers."""

    def write(
        name: str = "run",
        *,
        teachers: tuple[str, ...] = ("wide", "dense"),
        classes: tuple[str, ...] = ("cat", "dog", "owl"),
        epochs: int = 3,
        method: str = "amtml",
        seed: int = 0,
        accuracy: float = 0.5,
    ) -> Record:
        record = Record(tmp_path / name)
        record.folder.mkdir(parents=True)
        run = {"data": "pets", "student": "small:cnn", "method": method, "seed": seed}
        run |= {"optimisation": {"epochs": epochs}, "options": {"temperature": 4.0}}
        record.write_json(RUN, run)
        known = {"spec": "small:cnn", "parameters": 900, "accuracy": 0.7}
        rows = [{"name": teacher, "classes": list(classes)} | known for teacher in teachers]
        record.write_json(TEACHERS, rows)
        for epoch in range(epochs):
            for line in lines(epoch, teachers):
                record.append_metrics(line)
        arrays = made(teachers, classes)
        for part, content in arrays.items():
            if content:
                record.write_arrays(part, content)
        summary = {"method": method, "split": "test", "accuracy_last": accuracy, "parameters": 90}
        summary |= {f"accuracy.{teacher}": 0.7 for teacher in teachers}
        summary |= {f"weights.{teacher}": 1 / len(teachers) for teacher in teachers}
        record.write_json(SUMMARY, summary)
        return record

    return write


def lines(epoch: int, teachers: tuple[str, ...]) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl."""
    start = {"epoch": epoch, "accuracy": 0.4 + epoch / 100}
    train = {"split": "train", "loss": 3.0, "loss.ce": 1.0, "loss.kd": 2.0, "seconds": 1.0}
    train |= {"gradient_share.ce": 0.5, "gradient_share.kd": 0.5}
    train |= {f"weights.{teacher}": 1 / len(teachers) for teacher in teachers}
    if len(teachers) > 1:
        train |= {"weights_entropy": 0.8, "weights_variance": 0.01}
    return [start | train, start | {"split": "validation", "loss": 1.0}]


def made(teachers: tuple[str, ...], classes: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The arrays of a run over 40 examples."""
    draw, count, width = np.random.default_rng(0), 40, len(teachers)
    labels = draw.integers(0, len(classes), count)
    predicted_TN = draw.integers(-1, len(classes), (width, count))
    weights_NT = draw.dirichlet(np.ones(max(width, 1)), count)[:, :width]
    names, index = np.array(teachers, dtype=str), np.arange(count)
    sure_NTC = draw.dirichlet(np.ones(len(classes)), (3, max(width, 1)))[:, :width]
    return {
        WEIGHTS: {"index": index, "labels": labels, "teachers": names, "weights": weights_NT}
        if teachers
        else {},
        PREDICTIONS: {
            "index": index,
            "labels": labels,
            "student": draw.integers(0, len(classes), count),
            "teachers": predicted_TN,
            "classes": np.array(classes, dtype=str),
            "heard": names,
            "weights": weights_NT,
        },
        EXAMPLES: {
            "index": index[:3],
            "images": draw.integers(0, 256, (3, 3, 8, 8), dtype=np.uint8),
            "labels": labels[:3],
            "teachers": sure_NTC,
            "student": draw.dirichlet(np.ones(len(classes)), 3),
            "weights": weights_NT[:3],
            "rule": np.array(["contested", "corrected", "worst"]),
        },
    }


def drop(record: Record, part: str, *keys: str) -> None:
    """Leave arrays out, as an older version would have."""
    arrays = record.read_arrays(part)
    record.write_arrays(part, {key: value for key, value in arrays.items() if key not in keys})


def numbers(page: str) -> dict[str, Any]:
    """What the page gives its script to read off."""
    text = page.partition('<script type="application/json" id="numbers">')[2]
    return json.loads(text.partition("</script>")[0])
