"""What cannot work is refused in one line, with the right exit code, and nothing is touched."""

import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from collegium.models.zoo.cifar import CIFAR_MODELS
from collegium.training.trainer import Trainer

DISTIL = "distill --data digits --student small:cnn"


def snapshot(folder: Path) -> dict[str, str]:
    """Every file of a folder, by its content."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("distil --data digits", "did you mean 'distill'"),
        ("train --data digit --model small:cnn", "did you mean 'digits'"),
        ("train --data cifar10:nowhere --model small:cnn", "nowhere"),
        ("train --data folder:nowhere --model small:cnn", "nowhere"),
        ("train --data digits --model small:cnm", "did you mean 'cnn'"),
        ("train --data digits --model smal:cnn", "did you mean 'small:NAME'"),
        ("train --data digits --model cifar:resnet21", "did you mean 'resnet"),
        ("train --data digits --model nowhere.py:build", "no such file"),
        ("train --data digits --model small:cnn --epochz 3", "--epochs"),
        ("train --data digits --model small:cnn --epochs three", "'three'"),
        ("train --data digits --model small:cnn --epochs 0", "at least 1"),
        ("train --data digits --model small:cnn --lr -1", "--lr must be > 0"),
        ("train --data digits --model small:cnn --batch-size 5000", "larger than the"),
        ("train --data digits --model small:cnn --batch-size 0", "batch"),
        ("train --data digits --model small:cnn --validation 1.5", "0 <= f < 1"),
        ("train --data digits --model small:cnn@nowhere.safetensors", "no such file"),
        ("train --data digits", "--model"),
        ("train --data digits --model small:cnn --accelerator cuda --devices 99", "cannot be had"),
        ("train --data digits --model small:cnn --accelerator cpu --precision 16", "32 or bf16"),
        (f"{DISTIL} amtml", "--teacher NAME=MODEL"),
        (f"{DISTIL} --teacher a=small:cnn amtl", "did you mean 'amtml'"),
        (f"{DISTIL} --teacher a amtml", "takes NAME=MODEL"),
        (f"{DISTIL} --teacher a=small:cnn amtml", "has no weights"),
        (f"{DISTIL} --teacher a=x --teacher a=y amtml", "--teacher is given twice for 'a'"),
        (f"{DISTIL} --teacher a=x amtml --temperature 0", "temperature must be > 0"),
        (f"{DISTIL} --teacher a=x amtml --alpha -1", "alpha must be >= 0"),
        (f"{DISTIL} --teacher a=x amtml --alpha 2 --label-weight None", "between 0 and 1"),
        ("train --data digits --model small:cnn --label-smoothing 1", "at least 0 and below 1"),
        ("train --data digits --model small:cnn --class-weights nowhere.csv", "cannot be read"),
        (f"{DISTIL} --teacher a=x amtml --preset figur", "did you mean 'figure'"),
        ("methods amtl", "did you mean 'amtml'"),
        ("cite nothing", "unknown method"),
        ("resume nowhere", "no run folder"),
        ("evaluate --data digits --model small:cnn", "has no weights"),
        ("evaluate --data digits --model runs/none", "no folder of that name exists"),
        (f"{DISTIL} --teacher a=foo:bar amtml", "unknown model 'foo:bar'"),
        (f"{DISTIL} --teacher a=smal:cnn kd", "'smal:cnn'; did you mean 'small:NAME'"),
        ("train --data digits --model small:cnn --epochs 9999999", "at most 1,000,000"),
    ],
)
def test_a_request_that_makes_no_sense(command, words: str, says: str) -> None:
    result = command(words)
    assert result.code == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert says in result.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("words", ["kd --help", "kd avg_mkd --help", "--help"])
def test_help_of_a_method_needs_no_teacher(command, words: str) -> None:
    result = command(f"distill {words}")
    assert result.code == 0, result.err
    assert "--teacher" in result.out


def test_a_folder_that_holds_a_run_is_left_alone(distil) -> None:
    assert distil("--out run amtml").code == 0
    Path("run/notes.txt").write_text("mine")
    before = snapshot(Path("run"))
    result = distil("--out run amtml --alpha 0.1")
    assert result.code == 2
    assert "holds a run already" in result.err
    assert snapshot(Path("run")) == before
    # A refusal after the look at the folder must not touch it either.
    assert distil("--out run --overwrite --batch-size 9999 amtml").code == 2
    assert snapshot(Path("run")) == before
    assert distil("--out run --overwrite amtml --alpha 0.1").code == 0
    assert Path("run/notes.txt").read_text() == "mine"


def test_an_output_that_is_a_file(distil) -> None:
    Path("run").write_text("mine")
    result = distil("--out run amtml")
    assert result.code == 2
    assert Path("run").read_text() == "mine"


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_is_never_executed(command) -> None:
    Path("bad.pt").write_bytes(pickle.dumps({"weight": Hostile()}))
    torch.save({"weight": Hostile()}, "worse.pth")
    for name in ("bad.pt", "worse.pth"):
        result = command(f"{DISTIL} --teacher a=small:cnn@{name} amtml")
        assert result.code == 2
        assert result.err.count("\n") == 1
        assert not Path("executed").exists()


def test_weights_that_burst_are_not_unpacked(command) -> None:
    with zipfile.ZipFile("bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps({}))
        archive.writestr("bomb/data/0", bytes(300 << 20))
    result = command(f"{DISTIL} --teacher a=small:cnn@bomb.pt amtml")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "bytes once unpacked" in result.err


def test_weights_that_do_not_fit_are_listed(command) -> None:
    body = CIFAR_MODELS["resnet32"](10)
    save_file(body.state_dict(), "r32.safetensors")
    result = command(f"{DISTIL} --teacher a=cifar:resnet20@r32.safetensors amtml")
    assert result.code == 2
    assert "teacher a" in result.err
    assert "60 unexpected" in result.err or "72 unexpected" in result.err
    result = command(f"{DISTIL} --teacher a=cifar:resnet44@r32.safetensors amtml")
    assert "missing" in result.err
    save_file(CIFAR_MODELS["resnet20"](7).state_dict(), "seven.safetensors")
    result = command(f"{DISTIL} --teacher a=cifar:resnet20@seven.safetensors amtml")
    assert "gave (1, 7), expected logits of shape (1, 10)" in result.err
    result = command("train --data digits --model cifar:resnet20@seven.safetensors")
    assert "it knows 7 classes, the data has 10" in result.err


@pytest.mark.parametrize(
    "content", [b"", b"not tensors", b"\xff" * 8 + b"{}", (10**12).to_bytes(8, "little") + b"{}"]
)
def test_a_file_that_is_no_safetensors(command, content: bytes) -> None:
    Path("bad.safetensors").write_bytes(content)
    result = command(f"{DISTIL} --teacher a=small:cnn@bad.safetensors amtml")
    assert result.code == 2
    assert result.err.count("\n") == 1


def test_a_student_of_classes_in_another_order_is_refused(command) -> None:
    body = CIFAR_MODELS["resnet8"](10)
    classes = '["9", "1", "2", "3", "4", "5", "6", "7", "8", "0"]'
    save_file(body.state_dict(), "turned.safetensors", metadata={"classes": classes})
    result = command("train --data digits --model cifar:resnet8@turned.safetensors")
    assert result.code == 2
    assert "in another order" in result.err


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raise ValueError('broken here')", "ValueError: broken here"),
        ("def other(): pass", "unknown function"),
        ("def build(classes): return 3", "returned a int, expected an nn.Module"),
        ("def build(classes): 1 / 0", "ZeroDivisionError"),
        ("import torch\ndef build(classes): return torch.nn.Flatten()", "expected logits"),
        ("import torch\ndef build(classes): return torch.nn.Linear(3, 4)", "cannot take a view"),
        (
            "import torch\nclass Pair(torch.nn.Flatten):\n"
            "    def forward(self, x): return x, x\ndef build(classes): return Pair()",
            "tuple",
        ),
    ],
)
def test_a_users_file_that_fails(command, source: str, says: str) -> None:
    Path("net.py").write_text(source)
    result = command("train --data digits --model net.py:build --epochs 1")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert says in result.err
    assert not Path("runs").exists()


def test_a_teacher_that_gives_nan_is_named(command, teachers: dict[str, Path]) -> None:
    from safetensors.torch import load_file

    tensors = load_file(teachers["wide"] / "student.safetensors")
    tensors["linear.weight"][0, 0] = float("nan")
    save_file(tensors, "nan.safetensors")
    good = f"--teacher good={teachers['residual']}"
    for validation in (0.1, 0.0):
        result = command(
            f"{DISTIL} {good} --teacher ill=small:cnn-wide@nan.safetensors --epochs 1 "
            f"--validation {validation} --quiet --out run{validation} amtml"
        )
        assert result.code == 2
        assert "teacher ill: nan.safetensors: tensor linear.weight is damaged" in result.err
        assert result.err.count("\n") == 1


def test_a_student_that_becomes_nan_stops_with_the_step(command) -> None:
    result = command(
        "train --data digits --model small:mlp --epochs 9 --schedule constant --lr 1e18 "
        "--out run --quiet"
    )
    assert result.code == 1
    assert "at step" in result.err
    assert "NaN or infinite" in result.err
    assert not Path("run/student.safetensors").exists()
    for file in Path("run/checkpoint").glob("epoch-*/tensors"):
        with safe_open(file, framework="pt") as tensors:
            values = [tensors.get_tensor(name) for name in tensors.keys()]  # noqa: SIM118
        assert all(torch.isfinite(v).all() for v in values if v.is_floating_point())


def test_a_last_step_that_breaks_the_student_is_not_saved(
    command, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Trainer.step

    def take_and_break(self, *arguments) -> None:
        take(self, *arguments)  # its loss is fine, what it leaves is not
        next(self.module.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(Trainer, "step", take_and_break)
    result = command("train --data digits --model small:mlp --epochs 2 --batch-size 351 --out run")
    assert result.code == 1
    assert "student.body.layer1.0.weight became NaN or infinite at step 1" in result.err
    assert not list(Path("run/checkpoint").glob("epoch-*"))


def test_kd_without_validation_wants_a_name(distil, command, teachers) -> None:
    result = distil("--validation 0 --out a kd")
    assert result.code == 2
    assert "kd --teacher NAME" in result.err


def test_one_teacher_one_image_and_no_validation_work(command, teachers) -> None:
    named = f"--teacher only={teachers['wide']}"
    for method in ("amtml", "avg_mkd", "kd"):
        result = command(f"{DISTIL} {named} --epochs 1 --validation 0 --quiet --json {method}")
        assert result.code == 0, result.err
        assert result.json["best_epoch"] is None
        assert result.json["weights.only"] == pytest.approx(1)
    few = "--epochs 1 --validation 0.8 --batch-size 1"
    result = command(f"{DISTIL} {named} {few} --quiet --json amtml")
    assert result.code == 0, result.err
