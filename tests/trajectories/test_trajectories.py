"""The same request gives the same student; stopping in between changes nothing."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import collegium as cg
from collegium.cli.main import main
from collegium.data import Splits
from collegium.errors import CollegiumError, FolderError, Interrupted, RequestError
from collegium.methods import all_methods
from collegium.models.network import weights_hash
from collegium.models.zoo.small import SMALL_MODELS
from collegium.records.run_folder import Record
from collegium.training.trainer import Trainer
from collegium.utils.progress import Display

TIMES = ("seconds", "teacher_seconds", "images_per_s")


def digest(record: Record) -> str:
    return hashlib.sha256(record.path("student.safetensors").read_bytes()).hexdigest()


def timeless(record: Record) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in record.metrics()]


def test_the_same_request_gives_the_same_bytes(distil: Any) -> None:
    first, second, other = distil(folder="a"), distil(folder="b"), distil(folder="c", seed=1)
    assert digest(first) == digest(second) != digest(other)
    assert timeless(first) == timeless(second)
    assert np.array_equal(first.weights["weights"], second.weights["weights"])


def test_the_global_generator_does_not_matter(distil: Any) -> None:
    torch.manual_seed(1)
    first = distil(folder="a", epochs=1)
    torch.manual_seed(2)
    assert digest(first) == digest(distil(folder="b", epochs=1))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a teacher that was trained for a moment."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    words = f"train --data digits --model small:cnn-wide --epochs 2 --quiet --out {folder}"
    assert main(words.split()) == 0
    return folder


@pytest.mark.parametrize(
    ("optimizer", "stop_after"),
    [
        ("sgd", 1),
        ("adamw", 3),
        ("sgd", 5),
        pytest.param("adamw", 1, marks=pytest.mark.slow),
        pytest.param("sgd", 3, marks=pytest.mark.slow),
        pytest.param("adamw", 5, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    teacher: Path,
    optimizer: str,
    stop_after: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = f"distill --data digits --student small:cnn --teacher a={teacher} --epochs 5 --quiet "
    words += f"--optimizer {optimizer} amtml --adapter-share 0.5 --out "
    assert main([*words.split(), "whole"]) == 0

    def stop(self: Display, line: Any, validation: Any) -> None:
        if line["epoch"] + 1 == stop_after + 1:  # in the epoch after the last checkpoint
            raise KeyboardInterrupt

    def stop_at_the_end(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Display, "epoch", stop)
        if stop_after == 5:  # all epochs are done, the summary is not
            patched.setattr("collegium.runner.carry_out.close", stop_at_the_end)
        assert main([*words.split(), "broken"]) == 130
    assert not Path("broken/student.safetensors").exists()
    assert main(["resume", "broken", "--quiet"]) == 0
    whole, broken = Record("whole"), Record("broken")
    assert digest(whole) == digest(broken)
    assert timeless(whole) == timeless(broken)
    assert np.array_equal(whole.weights["weights"], broken.weights["weights"])
    before = digest(broken)
    assert main(["resume", "broken", "--quiet"]) == 0  # a finished one is left as it is
    assert digest(broken) == before


def test_resuming_with_other_teachers_or_data_is_refused(
    distil: Any, digits: Any, specialists: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Display, line: Any, validation: Any) -> None:
        if line["epoch"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "epoch", stop)
    with pytest.raises(Interrupted, match="go on from Python"):
        distil()
    swapped = {"low": specialists["high"], "high": specialists["low"]}
    with pytest.raises(RequestError, match="teacher low is not the one"):
        distil(teachers=swapped, resume=True)
    other = Splits(digits.train.subset(range(100)), digits.validation, digits.test)
    with pytest.raises(FolderError, match="other data"):
        distil(data=other, resume=True)


@pytest.mark.parametrize("slug", list(all_methods()))
def test_no_method_changes_a_teacher_by_a_byte(distil: Any, specialists: Any, slug: str) -> None:
    before = {name: weights_hash(network) for name, network in specialists.items()}
    record = distil(all_methods()[slug](), epochs=1)
    assert {name: weights_hash(network) for name, network in specialists.items()} == before
    student = SMALL_MODELS["cnn"](10).state_dict()
    with safe_open(record.path("student.safetensors"), framework="pt") as file:
        assert set(file.keys()) == set(student)
    (kept,) = record.path("checkpoint").glob("epoch-*")
    with safe_open(kept / "tensors", framework="pt") as file:
        names = list(file.keys())
        student_keys = [n for n in names if n.startswith("learner/student.")]
        assert len(student_keys) == len(student)
        widest = max(int(np.prod(file.get_slice(n).get_shape())) for n in names)
    # The teachers' largest tensors are many times the student's: they would show.
    assert widest < max(p.numel() for p in specialists["low"].parameters())


class Disturbed(nn.Module):
    """A teacher whose mode matters: BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        out: torch.Tensor = self.layers(images)
        return out


def test_a_users_teacher_is_not_touched_even_if_it_is_put_in_training_mode(
    distil: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Disturbed()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    ask = Trainer.ask

    def disturb(self: Trainer, *arguments: Any) -> Any:
        for module in (teacher, *(said.network for said in self.teachers._teachers.values())):
            module.train()
        return ask(self, *arguments)

    monkeypatch.setattr(Trainer, "ask", disturb)
    method = cg.AvgMKD()
    first = distil(method, folder="a", teachers={"t": teacher}, epochs=1)
    second = distil(method, folder="b", teachers={"t": teacher}, epochs=1)
    assert digest(first) == digest(second)  # dropout would have drawn
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.slow
def test_specialists_get_different_weights_on_different_examples(
    distil: Any, digits: Any, specialists: Any
) -> None:
    # Each teacher knows half of the classes: the one that knows should be heard more.
    record = distil(epochs=90)
    order = digits.train.index_N.argsort()
    low = (digits.train.labels_N[order] < 5).numpy()
    weight = record.weights["weights"][:, 0]
    assert weight[low].mean() - weight[~low].mean() > 0.03  # 0.06 to 0.09 measured
    assert weight.var() > 1e-3
    entropy = record.metrics("train")[-1]["weights_entropy"]
    assert 0.05 < entropy < 0.999


def test_hint_regressors_learn_and_their_loss_falls(distil: Any) -> None:
    lines = distil(epochs=20).metrics("train")
    for name in ("loss.hint.low", "loss.hint.high"):
        assert lines[-1][name] < 0.96 * lines[0][name]
    frozen = distil(cg.AMTML.preset("notebook_hint"), folder="b", epochs=1)
    (kept,) = frozen.path("checkpoint").glob("epoch-*")
    with safe_open(kept / "tensors", framework="pt") as file:
        names = [name for name in file.keys() if "regressor.weight" in name]  # noqa: SIM118
        assert names
        assert all(file.get_tensor(name).abs().max() <= 0.005 for name in names)


def test_copies_of_one_teacher_train_the_student_one_teacher_trains(
    distil: Any, specialists: Any
) -> None:
    teacher = specialists["low"]
    method = cg.AMTML(hint_weight=0.0, angle_weight=0.0)
    several = distil(method, folder="a", teachers={"a": teacher, "b": teacher, "c": teacher})
    single = cg.KD(temperature=method.temperature, alpha=method.alpha)
    alone = distil(single, folder="b", teachers={"a": teacher})
    for one, other in zip(several.metrics("train"), alone.metrics("train"), strict=True):
        assert one["loss.kd"] == pytest.approx(other["loss.kd"], rel=1e-3)


def test_collapsed_weights_are_warned_about(distil: Any, capfd: pytest.CaptureFixture[str]) -> None:
    record = distil(cg.AMTML(adapter_rate=1e-6, adapter_init_std=1e-6, hint_weight=0.0), epochs=1)
    assert "collapsed to uniform" in capfd.readouterr().err
    assert "collapsed to uniform" in record.metrics("train")[-1]["warning"]


def test_from_python_with_modules_and_arrays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images, labels = np.random.default_rng(0).random((60, 8, 8)), np.arange(60) % 3
    images[labels == 1, :4] += 1
    images[labels == 2, 4:] += 1

    def net() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))

    record = cg.distill(
        student=net(),
        teachers={"a": net(), "b": net()},
        train=((images / 2).astype("float32"), labels),
        method=cg.AMTML(),
        epochs=2,
        batch_size=20,
        out=tmp_path / "run",
        quiet=True,
    )
    assert record.summary["parameters"] == 475
    with pytest.raises(CollegiumError, match="from Python"):
        cg.resume(tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    words = "-m collegium.cli.main train --data digits --model small:dense --epochs 12 --seed 5"
    start = [sys.executable, *words.split(), "--out"]
    subprocess.run([*start, "whole"], cwd=tmp_path, check=True, capture_output=True)
    process = subprocess.Popen([*start, "killed"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if len(Record(tmp_path / "killed").metrics("train")) >= 4:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resume = [sys.executable, "-m", "collegium.cli.main", "resume", "killed"]
    subprocess.run(resume, cwd=tmp_path, check=True, capture_output=True)
    assert digest(Record(tmp_path / "whole")) == digest(Record(tmp_path / "killed"))
    assert timeless(Record(tmp_path / "whole")) == timeless(Record(tmp_path / "killed"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["", "--adapter-share 0.5"])
def test_two_processes_train_what_one_trains(tmp_path: Path, stage: str) -> None:
    # GroupNorm, and no relations: nothing here has a statistic over the batch. Each process has one
    # thread: another number of threads sums in another order, which 40 steps multiply.
    method = f"amtml --angle-weight 0 {stage}"

    def run(words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "collegium.cli.main", *words.split()]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    run("train --data digits --model small:cnn-wide --epochs 2 --out a")
    run("train --data digits --model small:resnet --epochs 2 --out b")
    start = "distill --data digits --student small:cnn-gn --teacher a=a --teacher b=b --epochs 3"
    start += " --threads 1"
    run(f"{start} --out one {method}")
    told = run(f"{start} --out two --devices 2 --accelerator cpu --strategy ddp --json {method}")
    assert json.loads(told.stdout)["folder"] == "two"
    one, two = Record(tmp_path / "one"), Record(tmp_path / "two")
    for first, second in zip(one.metrics("train"), two.metrics("train"), strict=True):
        for name in (key for key in first if key.startswith(("loss", "weights", "accuracy"))):
            assert second[name] == pytest.approx(first[name], rel=1e-4), name
    assert np.array_equal(one.weights["index"], two.weights["index"])
    assert np.allclose(one.weights["weights"], two.weights["weights"], atol=1e-5)
