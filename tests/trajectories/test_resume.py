"""Killed anywhere, a run goes on as if nothing had happened."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collegium.api import execute
from collegium.cli.main import main
from collegium.config.options import Machine, Optimisation
from collegium.config.run import Run
from collegium.config.same_run import run_id
from collegium.errors import RequestError
from collegium.methods.amtml import AMTML
from collegium.records.run_folder import Record
from collegium.training.trainer import Trainer
from collegium.utils.lock import only_writer

TIMES = ("seconds", "teacher_seconds", "images_per_s", "inference_images_per_s")
NET = """
from torch import nn

def build(classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(144, classes),
    )
"""
WORDS = (
    "distill --data digits --student net.py:build --teacher a=a --teacher b=b --epochs 2 "
    "--batch-size 48 --augment crop --checkpoint-every 3 --quiet --out"
)
STORED = "--store STORE --store-logits fp32 --store-hints fp16 --views 1"


class KilledError(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a student that has dropout, two teachers, and a run nobody disturbed."""
    folder = tmp_path_factory.mktemp("resume")
    (folder / "net.py").write_text(NET)
    before = Path.cwd()
    os.chdir(folder)
    for name, model in {"a": "small:cnn", "b": "small:mlp"}.items():
        words = f"train --data digits --model {model} --epochs 1 --quiet --out {name}"
        assert main(words.split()) == 0
    assert main([*WORDS.split(), "whole"]) == 0
    os.chdir(before)
    return folder


@pytest.fixture
def cut(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Starts a run in which something happens at the n-th call of a function; gives its folder."""
    monkeypatch.chdir(place)

    def go(owner: Any, name: str, at: int, happens: Callable[[], None], more: str = "") -> str:
        folder, call, calls = str(tmp_path / "cut"), getattr(owner, name), [0]

        def counted(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == at:
                happens()
            return call(*arguments, **options)

        with monkeypatch.context() as patched:
            patched.setattr(owner, name, counted)
            if happens is kill:
                with pytest.raises(KilledError):
                    main([*WORDS.split(), folder, *more.split()])
            else:
                assert main([*WORDS.split(), folder, *more.split()]) in (1, 130)
        return folder

    return go


def kill() -> None:
    raise KilledError


def facts(folder: Path | str) -> Any:
    """Everything a run leaves that has no time in it."""
    record = Record(folder)
    lines = [{k: v for k, v in line.items() if k not in TIMES} for line in record.metrics()]
    arrays = {
        part: {name: array.tolist() for name, array in record.read_arrays(part).items()}
        for part in ("weights.npz", "predictions.npz", "examples.npz")
    }
    student = hashlib.sha256(record.path("student.safetensors").read_bytes()).hexdigest()
    summary = {k: v for k, v in record.summary.items() if k not in (*TIMES, "store_hits")}
    return lines, arrays, student, summary


def goes_on(folder: str, whole: Path | str, more: str = "") -> None:
    assert main(["resume", folder, "--quiet", *more.split()]) == 0
    assert facts(folder) == facts(whole)
    assert Record(folder).path("report.html").is_file()
    hidden = [path.name for path in Path(folder).rglob(".*") if path.name != ".lock"]
    assert not hidden


def some(now: list[Any], slow: list[Any]) -> list[Any]:
    """Cases that are always tried, and those for which there must be time."""
    return [*now, *(pytest.param(case, marks=pytest.mark.slow) for case in slow)]


WRITES = [1, 2, 3, 6, 8, 10, 17, 20, 22, 25, 26, 33, 38]


@pytest.mark.parametrize("at", some([5, 11, 24, 43], WRITES))
def test_killed_while_something_is_written(cut: Any, place: Path, at: int) -> None:
    folder = cut(os, "fsync", at, kill)
    if at <= 3:  # there is no run yet: it is started again
        assert main([*WORDS.split(), folder]) == 0
    goes_on(folder, place / "whole")


@pytest.mark.parametrize("at", some([5, 14], [1, 7, 8]))
def test_killed_in_a_step(cut: Any, place: Path, at: int) -> None:
    goes_on(cut(Trainer, "_learn", at, kill), place / "whole")


@pytest.mark.slow
def test_killed_again_and_again(cut: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, take, calls = cut(Trainer, "_learn", 5, kill), Trainer._learn, [0]

    def counted(self: Trainer, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] % 5 == 0:
            raise KilledError
        return take(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_learn", counted)
        for _ in range(3):
            with pytest.raises(KilledError):
                main(["resume", folder, "--quiet"])
    goes_on(folder, place / "whole")


@pytest.mark.slow
def test_killed_while_answers_are_stored(cut: Any, tmp_path: Path) -> None:
    words = STORED.replace("STORE", str(tmp_path / "first"))
    assert main([*WORDS.split(), str(tmp_path / "whole"), *words.split()]) == 0
    words = STORED.replace("STORE", str(tmp_path / "second"))
    for at in (4, 6):
        folder = cut(os, "fsync", at, kill, words)
        goes_on(folder, tmp_path / "whole")
        shutil.rmtree(folder)
        shutil.rmtree(tmp_path / "second")


@pytest.mark.parametrize("number", some([signal.SIGINT], [signal.SIGTERM]))
def test_a_signal_lets_the_step_be_finished(
    cut: Any,
    place: Path,
    number: signal.Signals,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    # Whoever runs the tests in the background may have told them to ignore interrupts.
    outside = signal.signal(number, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(number, outside))
    before = signal.getsignal(number)
    folder = cut(Trainer, "_learn", 5, lambda: os.kill(os.getpid(), number))
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert f"go on with: collegium resume {folder}" in told
    assert [path.name for path in Path(folder, "checkpoint").iterdir()][-1:]
    kept = sorted(path.name for path in Path(folder, "checkpoint").iterdir())
    assert kept == ["epoch-00000-step-000003", "epoch-00000-step-000005"]
    assert signal.getsignal(number) == before
    goes_on(folder, place / "whole")


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("part", some(["tensors"], ["state.json", "process-0", "manifest.json"]))
def test_a_damaged_checkpoint_is_passed_over(
    cut: Any, place: Path, part: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = cut(Trainer, "_learn", 11, kill)
    older, newer = sorted(Path(folder, "checkpoint").iterdir())
    damage(newer / part)
    goes_on(folder, place / "whole")
    told = " ".join(capfd.readouterr().err.split())
    assert f"checkpoint {newer} is damaged" in told
    assert f"going on from {older.name}" in told


LOSSES: dict[str, Callable[[list[str]], list[str]]] = {
    "the first line lost": lambda lines: lines[1:],
    "a line cut": lambda lines: [lines[0][:40] + "\n", *lines[1:]],
    "a line twice": lambda lines: [lines[0], *lines],
    "a line changed": lambda lines: [lines[0].replace('"loss": ', '"loss": 1'), *lines[1:]],
    "all lost": lambda lines: [],
}


@pytest.mark.parametrize("loss", LOSSES)
def test_lines_of_finished_epochs_that_are_lost_come_back(
    cut: Any, place: Path, loss: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = cut(Trainer, "_learn", 13, kill)  # in the second epoch, after a checkpoint in it
    path = Path(folder, "metrics.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 2
    path.write_text("".join(LOSSES[loss](lines)))
    goes_on(folder, place / "whole")
    told = " ".join(capfd.readouterr().err.split())
    assert "metrics.jsonl is not what was written" in told


def test_with_all_checkpoints_damaged_nothing_is_touched(
    cut: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = cut(Trainer, "_learn", 11, kill)
    for path in Path(folder, "checkpoint").iterdir():
        (path / "state.json").unlink()
    before = sorted(str(path) for path in Path(folder).rglob("*"))
    assert main(["resume", folder, "--quiet"]) == 2
    told = capfd.readouterr().err
    assert told.count("is damaged") == 2
    assert "nothing to go on from" in told
    assert sorted(str(path) for path in Path(folder).rglob("*")) == before


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"seed": 3}, "seed 0 then, 3 now"),
    ({"view_seed": 3}, "view_seed 0 then, 3 now"),
    ({"augment": "none"}, "augment crop then, none now"),
    ({"optimisation": Optimisation(2, 48, lr=0.07)}, "lr None then, 0.07 now"),
    ({"method": AMTML(temperature=9.0)}, "temperature 4.0 then, 9.0 now"),
    ({"machine": Machine(precision="bf16")}, "precision 32 then, bf16 now"),
    ({"student": "small:mlp"}, "student net.py:build then, small:mlp now"),
    ({"teachers": {"a": "a"}}, "was started with teachers a, b; now they are a"),
    ({"teachers": {"a": "b", "b": "a"}}, "teacher a is not the one"),
]


def test_what_decides_the_result_cannot_change(cut: Any, place: Path) -> None:
    folder = Path(cut(Trainer, "_learn", 5, kill))
    for change, says in CHANGES:
        run = replace(Run.from_json(Record(folder).run), **change)
        with pytest.raises(RequestError, match=re.escape(says)):
            execute(run, folder, resume=True, quiet=True)
    goes_on(str(folder), place / "whole")


def test_other_data_are_refused(cut: Any, capfd: pytest.CaptureFixture[str]) -> None:
    record = Record(cut(Trainer, "_learn", 5, kill))
    for part in ("fingerprint", "validation split", "view recipe"):
        run = record.run
        was = deepcopy(run)
        (was if part in was else was["identity"])[part] = "f" * 64
        record.write_json("run.json", was)
        assert main(["resume", str(record.folder), "--quiet"]) == 2
        assert "run.json was changed by hand" in capfd.readouterr().err
        record.write_json("run.json", was | {"id": run_id(was)})  # it was started so
        assert main(["resume", str(record.folder), "--quiet"]) == 2
        assert re.search("(other data|another).*ffffffffffff.*now", capfd.readouterr().err)
        record.write_json("run.json", run)
    for part in ("identity", "environment"):
        record.write_json("run.json", record.run | {part: None})
        assert main(["resume", str(record.folder), "--quiet"]) == 2
        assert f"{part} is damaged" in capfd.readouterr().err
        record.write_json("run.json", run)


def test_a_folder_has_one_writer(cut: Any, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = cut(Trainer, "_learn", 5, kill)
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with only_writer(Path(folder)):
            os.write(ready[1], b"1")
            os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    for words in (["resume", folder], [*WORDS.split(), folder, "--overwrite"]):
        assert main(words) == 2
        told = capfd.readouterr().err
        assert f"is being written by another process ({child})" in told
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    goes_on(folder, place / "whole")


def test_overwriting_keeps_the_old_run_until_there_is_something_new(
    cut: Any, place: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(place / "whole", folder)
    before = facts(folder)
    for _ in range(2):  # the second time there is a run without a checkpoint in its place
        cut(Trainer, "_learn", 2, kill, "--overwrite --seed 3")
        assert facts(folder / "previous") == before
        assert not Record(folder).path("summary.json").exists()
    cut(Trainer, "_learn", 5, kill, "--overwrite")
    assert not (folder / "previous").exists()
    goes_on(str(folder), place / "whole")


def test_options_that_do_not_decide_may_change(cut: Any, place: Path) -> None:
    folder = cut(Trainer, "_learn", 5, kill)
    goes_on(folder, place / "whole", "--workers 0 --checkpoint-every 90s --accelerator cpu")


@pytest.fixture(scope="module")
def stopped(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Two runs that differ in their seed alone, each stopped after its first checkpoint."""
    folder, before = tmp_path_factory.mktemp("stopped"), Path.cwd()
    os.chdir(place)
    take = Trainer._learn
    found = {}
    for seed in (3, 4):
        calls = [0]

        def counted(self: Trainer, *arguments: Any, calls: list[int] = calls) -> Any:
            calls[0] += 1
            if calls[0] == 5:
                raise KilledError
            return take(self, *arguments)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Trainer, "_learn", counted)
            with pytest.raises(KilledError):
                main([*WORDS.split(), str(folder / str(seed)), "--seed", str(seed)])
        found[seed] = folder / str(seed)
    os.chdir(before)
    return found


def test_another_runs_checkpoint_is_refused(
    stopped: dict[int, Path], place: Path, tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    monkeypatch.chdir(place)
    folder = tmp_path / "mixed"
    shutil.copytree(stopped[3], folder)
    shutil.rmtree(folder / "checkpoint")
    shutil.copytree(stopped[4] / "checkpoint", folder / "checkpoint")
    before = (folder / "metrics.jsonl").read_bytes() if (folder / "metrics.jsonl").exists() else b""
    capfd.readouterr()
    assert main(["resume", str(folder), "--quiet"]) == 2
    told = capfd.readouterr().err
    assert "is of another run" in told
    assert told.count("\n") == 1
    assert not before or (folder / "metrics.jsonl").read_bytes() == before
    # Its run.json, too: then it is what was there before that is another's.
    shutil.copy(stopped[4] / "run.json", folder)
    for path in (folder / "checkpoint").iterdir():
        shutil.rmtree(path)
    shutil.copytree(stopped[3] / "checkpoint", folder / "checkpoint", dirs_exist_ok=True)
    assert main(["resume", str(folder), "--quiet"]) == 2
    assert "is of another run" in capfd.readouterr().err


def test_a_checkpoint_that_does_not_say_whose_it_is_is_gone_on_from(
    stopped: dict[int, Path], place: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(place)
    folder = tmp_path / "old"
    shutil.copytree(stopped[4], folder)
    for path in (folder / "checkpoint").iterdir():
        content = json.loads((path / "state.json").read_text())
        del content["run"]
        (path / "state.json").write_text(json.dumps(content))
        digests = json.loads((path / "manifest.json").read_text())
        digests["state.json"] = hashlib.sha256((path / "state.json").read_bytes()).hexdigest()
        (path / "manifest.json").write_text(json.dumps(digests))
    record = Record(folder)
    record.write_json("run.json", {k: v for k, v in record.run.items() if k not in ("id", "code")})
    assert main(["resume", str(folder), "--quiet"]) == 0


def test_where_no_checkpoint_was_finished_it_is_told(
    stopped: dict[int, Path], place: Path, tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    monkeypatch.chdir(place)
    folder = tmp_path / "unfinished"
    shutil.copytree(stopped[4], folder)
    (only,) = (folder / "checkpoint").iterdir()
    only.rename(only.with_name(f".{only.name}.tmp"))
    capfd.readouterr()
    assert main(["resume", str(folder), "--quiet"]) == 0
    assert "has no finished checkpoint: it starts again at epoch 1" in capfd.readouterr().err


def test_more_epochs_of_a_finished_run(
    cut: Any, place: Path, tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    monkeypatch.chdir(place)
    for folder in ("whole-more", "killed-more"):
        shutil.copytree(place / "whole", tmp_path / folder)
    whole, killed = (str(tmp_path / name) for name in ("whole-more", "killed-more"))
    for few in ("1", "2"):
        assert main(["resume", whole, "--epochs", few, "--quiet"]) == 2
        assert "has trained for 2 epochs already; give 3 or more" in capfd.readouterr().err
    assert facts(whole) == facts(place / "whole")
    assert main(["resume", whole, "--epochs", "3", "--quiet"]) == 0
    told = capfd.readouterr().err
    assert "epochs 2 became 3 after epoch 2: since then the learning rate follows" in told
    record = Record(whole)
    assert record.run["optimisation"]["epochs"] == 3
    assert record.run["changes"][0]["epochs"] == [2, 3]
    assert "epochs 2 became 3" in record.summary["changes"][0]
    train = record.metrics("train")
    assert [line["epoch"] for line in train] == [0, 1, 2]
    assert train[:2] == Record(place / "whole").metrics("train")
    # The last step of the cosine over all three epochs.
    steps = train[-1]["step"]
    expected = 0.05 * 0.5 * (1 + math.cos(math.pi * (steps - 1) / steps))
    assert train[-1]["lr"] == pytest.approx(expected)
    assert [line["epoch"] for line in record.metrics("test")] == [2]
    # Killed in the epoch that was added, it goes on as if nothing had happened.
    take, calls = Trainer._learn, [0]

    def counted(self: Trainer, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 5:
            raise KilledError
        return take(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_learn", counted)
        with pytest.raises(KilledError):
            main(["resume", killed, "--epochs", "3", "--quiet"])
    assert not Record(killed).path("summary.json").exists()
    goes_on(killed, whole)
    # Without a checkpoint nothing could go on exactly.
    shutil.rmtree(Path(whole, "checkpoint"))
    assert main(["resume", whole, "--epochs", "5", "--quiet"]) == 2
    assert "has no intact checkpoint" in capfd.readouterr().err
    assert Record(whole).path("summary.json").exists()
