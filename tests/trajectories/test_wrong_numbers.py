"""Numbers that go wrong, data that are odd, machines that run out of things."""

import dataclasses
import errno
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import collegium as cg
from collegium.api import execute
from collegium.config.options import Machine, Optimisation
from collegium.config.run import Run
from collegium.data import Splits, as_image_data
from collegium.errors import NumericsError, ResourceError
from collegium.training import checkpoint
from collegium.training.nan_guard import check_scale
from collegium.training.trainer import Trainer
from collegium.utils.os_errors import describe


def data() -> Splits:
    """60 images of 3 classes."""
    images = np.random.default_rng(0).random((60, 8, 8)).astype("float32")
    whole = as_image_data((images, np.arange(60) % 3))
    return Splits(whole, whole.subset(range(6)), None)


def plain(**options: Any) -> Run:
    fields: dict[str, Any] = {
        "data": data(),
        "student": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)),
        "optimisation": Optimisation(epochs=2, batch_size=20),
    }
    return Run(**fields | options)


def test_a_step_with_nan_names_the_examples_and_can_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Trainer._learn

    def learn(self: Trainer, step: int, distill_batch: Any, scale: float) -> Any:
        if step == 7:
            distill_batch.batch.images_BDHW[[2, 5]] = torch.nan
        return take(self, step, distill_batch, scale)

    monkeypatch.setattr(Trainer, "_learn", learn)
    run = plain(optimisation=Optimisation(3, 12), machine=Machine(checkpoint_every="5"))
    with pytest.raises(NumericsError) as caught:
        execute(run, tmp_path / "run", quiet=True)
    assert "the student's logits became NaN or infinite at step 7 for 2 examples" in str(
        caught.value
    )
    assert "terms: ce" in str(caught.value)
    assert "last good checkpoint is" in str(caught.value)
    (place,) = (tmp_path / "run" / "nonfinite").glob("*.safetensors")
    tensors, about = load_file(place), json.loads(place.with_suffix(".json").read_text())
    assert about["step"] == 7
    assert str(place) in str(caught.value)
    index = tensors["index"][[2, 5]].tolist()
    assert f"2 examples: {index[0]}, {index[1]} " in str(caught.value)
    assert not list((tmp_path / "run").rglob("*.pkl"))
    # From the dump alone the step goes wrong again.
    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    start = "learner/student.body."
    body = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    student.load_state_dict(body)
    assert student(tensors["images"]).isfinite().all(dim=1).tolist().count(False) == 2


def test_a_gradient_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Trainer._learn

    def learn(self: Trainer, step: int, distill_batch: Any, scale: float) -> Any:
        return take(self, step, distill_batch, float("inf") if step == 4 else scale)

    monkeypatch.setattr(Trainer, "_learn", learn)
    with pytest.raises(NumericsError, match=r"the gradient of student\.body\..* at step 4"):
        execute(plain(), tmp_path / "run", quiet=True)


def test_steps_are_left_out_on_request_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    take, bad = Trainer._learn, {1, 4}

    def learn(self: Trainer, step: int, distill_batch: Any, scale: float) -> Any:
        return take(self, step, distill_batch, float("nan") if step in bad else scale)

    monkeypatch.setattr(Trainer, "_learn", learn)
    run = plain(
        optimisation=Optimisation(3, 20, skip_nonfinite=True), machine=Machine(micro_batches=2)
    )
    record = execute(run, tmp_path / "run", quiet=True)
    assert [line.get("skipped", 0) for line in record.metrics("train")] == [1, 1, 0]
    assert capfd.readouterr().err.count("is left out") == 2
    for tensor in load_file(record.path("student.safetensors")).values():
        assert tensor.isfinite().all()
    bad |= set(range(20))
    with pytest.raises(NumericsError, match="every step of epoch 0"):
        execute(run, tmp_path / "all", quiet=True)
    long = Optimisation(3, 4, skip_nonfinite=True)
    with pytest.raises(NumericsError, match="at step 10;"):
        execute(plain(optimisation=long), tmp_path / "many", quiet=True)


@pytest.mark.parametrize("kind", ["one class", "constant labels", "black", "twice", "unvalidated"])
def test_odd_data_train(kind: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((40, 8, 8)).astype("float32")
    labels, classes = np.arange(40) % 3, ("a", "b", "c")
    if kind == "one class":
        labels, classes = labels * 0, ("a",)
    elif kind == "constant labels":
        labels = labels * 0 + 1
    whole = as_image_data((images, labels), classes=classes)
    if kind == "black":  # refused where it is read; made by hand it trains without NaN
        whole = dataclasses.replace(whole, images_NDHW=whole.images_NDHW * 0)
    if kind == "twice":
        whole = whole.subset([*range(30), *range(10)])
    held_out = None if kind == "unvalidated" else whole.subset(range(9))
    splits = Splits(whole, held_out, None)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    teacher = torch.nn.Sequential(network, torch.nn.Linear(144, len(classes)))
    run = Run(
        data=splits,
        student="small:cnn",
        teachers={"a": teacher, "b": teacher},
        method=cg.AMTML(),
        optimisation=Optimisation(epochs=2, batch_size=16),
    )
    record = execute(run, tmp_path / "run", quiet=True)
    assert record.summary["accuracy_last"] >= 0
    assert len(record.metrics("train")) == 2


class Scaler:
    """Of gradients, after so many overflows."""

    def __init__(self, scale: float) -> None:
        self.get_scale = lambda: scale


def test_overflow_that_does_not_end_is_said() -> None:
    for scaler in (None, Scaler(65536.0), Scaler(1.0)):
        check_scale(scaler, 7)  # one step or some are left out, which is how a scale is found
    with pytest.raises(NumericsError, match=r"overflow float16 .* at step 7: use --precision bf16"):
        check_scale(Scaler(0.5), 7)


def test_overflow_in_bf16_names_the_gradient(tmp_path: Path) -> None:
    options = Optimisation(9, 20, lr=1e30, schedule="constant")
    run = plain(optimisation=options, machine=Machine(precision="bf16"))
    with pytest.raises(NumericsError, match=r"became NaN or infinite at step \d+"):
        execute(run, tmp_path / "run", quiet=True)


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = execute(plain(student="small:mlp"), tmp_path / "whole", quiet=True)
    jumps = itertools.cycle((0.0, 3e9, -3e9))
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    record = execute(plain(student="small:mlp"), tmp_path / "run", quiet=True)
    students = (r.path("student.safetensors").read_bytes() for r in (record, whole))
    assert len(set(students)) == 1
    assert 0 < record.summary["seconds"] < 60
    assert [line["epoch"] for line in record.metrics("train")] == [0, 1]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "fewer --workers"),
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:4"), "another process of this"),
        (torch.OutOfMemoryError("CUDA out of memory."), "--teacher-batch auto"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_was_missing_is_said(error: Exception, says: str) -> None:
    assert says in str(describe(error))
    assert describe(RuntimeError("something else")) is None


def test_a_checkpoint_that_cannot_be_opened_now_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = execute(plain(student="small:mlp"), tmp_path / "run", quiet=True)
    record.path("report.html").unlink()  # so that there is something to go on with

    def refuse(path: Path) -> str:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "file_digest", refuse)
        with pytest.raises(ResourceError, match="too many files are open"):
            execute(plain(student="small:mlp"), tmp_path / "run", quiet=True, resume=True)
    execute(plain(student="small:mlp"), tmp_path / "run", quiet=True, resume=True)
    assert record.path("report.html").is_file()


def test_memory_that_runs_out_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(self: Trainer, *arguments: Any) -> Any:
        torch.empty(1 << 60)

    monkeypatch.setattr(Trainer, "_learn", learn)
    with pytest.raises(ResourceError, match="out of memory: give --micro-batches"):
        execute(plain(), tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "not permitted"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_what_a_disk_can_say(
    number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_through", refuse)
        with pytest.raises(ResourceError, match=says):
            execute(plain(student="small:mlp"), tmp_path / "run", quiet=True)
    assert not list((tmp_path / "run" / "checkpoint").iterdir())
    execute(plain(student="small:mlp"), tmp_path / "run", quiet=True, resume=True)
    whole = execute(plain(student="small:mlp"), tmp_path / "whole", quiet=True)
    assert (tmp_path / "run" / "student.safetensors").read_bytes() == whole.path(
        "student.safetensors"
    ).read_bytes()
