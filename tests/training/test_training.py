"""The small parts of training: schedule, measures, meter, record."""

import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from collegium.config.options import Machine, Optimisation
from collegium.errors import FolderError, RequestError
from collegium.evaluation.predict import Predictions
from collegium.records.results import MetricsLine
from collegium.records.run_folder import Record, next_free
from collegium.training.metrics import Meter, collapse, epoch_line
from collegium.training.schedule import learning_rate_factor
from collegium.types import Batch


def test_the_cosine_falls_from_one_to_zero() -> None:
    values = [learning_rate_factor("cosine", step / 10) for step in range(11)]
    assert values[0] == 1
    assert values[5] == pytest.approx(0.5)
    assert values[10] == pytest.approx(0)
    assert values == sorted(values, reverse=True)
    assert learning_rate_factor("constant", 0.9) == 1


def test_calibration_by_hand() -> None:
    # Two bins: confidence 0.9 three times, right twice; confidence 0.6 once, right.
    rows = [[math.log(0.9), math.log(0.1)]] * 3 + [[math.log(0.6), math.log(0.4)]]
    said = Predictions(torch.tensor(rows), torch.tensor([0, 0, 1, 0]), torch.arange(4))
    assert said.accuracy == 0.75
    assert said.ece == pytest.approx((3 * abs(2 / 3 - 0.9) + abs(1 - 0.6)) / 4, abs=1e-6)
    assert said.loss == pytest.approx(-(2 * math.log(0.9) + math.log(0.1) + math.log(0.6)) / 4)


def batch_of(count: int) -> Batch:
    zeros = torch.zeros(count, dtype=torch.long)
    return Batch(torch.zeros(count, 1, 2, 2), zeros, torch.arange(count), zeros)


def test_an_epoch_is_the_mean_over_its_examples_not_over_its_batches() -> None:
    meter = Meter(("a", "b"), keep_weights=True)
    for count, weight, loss in ((3, 1.0, 1.0), (1, 0.0, 5.0)):
        weights_BT = torch.tensor([[weight, 1 - weight]] * count)
        meter.add(
            batch_of(count), {"kd": torch.full((count,), loss)}, weights_BT, torch.ones(count, 2)
        )
    sums = {k: float(v) for k, v in meter.sums().items()}
    line = epoch_line(sums, ("a", "b"), epoch=0, step=2)
    assert line["loss"] == line["loss.kd"] == 2.0
    assert (line["weights.a"], line["weights.b"]) == (0.75, 0.25)
    assert line["weights_variance"] == pytest.approx(0.1875)
    assert line["weights_entropy"] == 0
    assert line["weights_from_uniform"] == 0.5
    assert meter.kept()[1].shape == (4, 2)


def test_collapse_is_told_from_life() -> None:
    line = MetricsLine(epoch=0, step=1, split="train", accuracy=0.5, loss=1.0)
    for entropy, from_uniform, says in ((1.0, 0.0, "uniform"), (0.01, 0.6, "one teacher")):
        told = replace(line, weights_entropy=entropy, weights_from_uniform=from_uniform)
        assert says in str(collapse(told))
    assert collapse(replace(line, weights_entropy=0.7, weights_from_uniform=0.2)) is None
    assert collapse(line) is None


def test_options_out_of_range_are_refused() -> None:
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}):
        with pytest.raises(RequestError):
            Optimisation(**wrong)
    for wrong in ({"devices": 0}, {"threads": 0}):
        with pytest.raises(RequestError):
            Machine(**wrong)


def test_a_record_survives_a_torn_line_and_forgets_epochs(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "run")
    for epoch in range(3):
        record.append_metrics({"epoch": epoch, "split": "train"})
    with record.path("metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "spl')
    assert [line["epoch"] for line in record.metrics("train")] == [0, 1, 2]
    record.keep_metrics(2)
    assert [line["epoch"] for line in record.metrics()] == [0, 1]


def test_the_next_free_folder(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    assert next_free(folder) == folder
    Record.create(folder).write_json("run.json", {})
    assert next_free(folder) == tmp_path / "train-2"
    with pytest.raises(FolderError, match="holds a run already"):
        Record.create(folder)


def test_an_archive_that_bursts_is_not_unpacked(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "run")
    with zipfile.ZipFile(record.path("weights.npz"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.npy", bytes(300 << 20))
    assert record.path("weights.npz").stat().st_size < 1 << 20
    with pytest.raises(FolderError, match=r"314,572,800 bytes once unpacked"):
        _ = record.weights
    sound = {"weights": np.zeros((1000, 3), np.float32), "index": np.arange(1000)}
    record.write_arrays("weights.npz", sound)
    assert record.weights["weights"].shape == (1000, 3)


def test_damaged_parts_are_refused_not_unpickled(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "run")
    record.path("weights.npz").write_bytes(b"PK nothing")
    record.path("run.json").write_text("{")
    with pytest.raises(FolderError):
        _ = record.weights
    with pytest.raises(FolderError):
        _ = record.run
    with pytest.raises(FolderError, match="no run folder"):
        Record.open(tmp_path)
