"""Whoever answers, and in however many parts a batch is worked off: the same student."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import collegium as cg
from collegium.api import execute
from collegium.config.options import COMPILE_STEPS, Machine, Optimisation, Storage
from collegium.config.run import Run
from collegium.records.run_folder import Record
from collegium.store import Store

TIMES = ("seconds", "teacher_seconds", "images_per_s")


@pytest.fixture(scope="module")
def run_into(digits: Any, specialists: Any) -> Any:
    """Distils from the specialists with crops, so that views differ from epoch to epoch."""

    def go(folder: Path, method: Any = None, **options: Any) -> Record:
        storage = options.pop("storage", Storage())
        machine = options.pop("machine", Machine())
        fields: dict[str, Any] = {
            "student": "small:cnn",
            "views": 2,
            "augment": "crop",
            "optimisation": Optimisation(epochs=3, batch_size=64),
        }
        run = Run(
            data=digits,
            teachers=specialists,
            method=method or cg.AMTML(),
            storage=storage,
            machine=machine,
            **fields | options,
        )
        return execute(run, folder, quiet=True)

    return go


@pytest.fixture
def run(run_into: Any, tmp_path: Path) -> Any:
    """The same, into a folder of the test."""
    return lambda folder, **options: run_into(tmp_path / folder, **options)


@pytest.fixture(scope="module")
def live(run_into: Any, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A finished run whose teachers were computed as it trained; tests compare theirs with it."""
    record: Record = run_into(tmp_path_factory.mktemp("live") / "run")
    return record


def digest(record: Record) -> str:
    return hashlib.sha256(record.path("student.safetensors").read_bytes()).hexdigest()


def losses(record: Record) -> list[float]:
    return [line["loss"] for line in record.metrics("train")]


def timeless(record: Record) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in record.metrics()]


def stored(tmp_path: Path, logits: str = "fp32", hints: Any = "fp32") -> Storage:
    return Storage(str(tmp_path / "store"), logits, hints)


def test_stored_is_live_to_the_last_bit(run: Any, live: Record, tmp_path: Path) -> None:
    filled = run("filled", storage=stored(tmp_path))
    found = run("found", storage=stored(tmp_path))
    assert digest(live) == digest(filled) == digest(found)
    assert timeless(live) == timeless(filled) == timeless(found)
    assert np.array_equal(live.weights["weights"], found.weights["weights"])
    hits = [record.summary["store_hits"] for record in (live, filled, found)]
    assert hits == [0.0, pytest.approx(1 / 3), 1.0]  # two views in three epochs
    store = Store(tmp_path / "store", None)
    assert [use["computed"] for use in store.uses()] == [2 * 2 * len(live.weights["index"]), 0]


def test_hints_may_come_from_live_teachers_and_logits_from_the_store(
    run: Any, live: Record, tmp_path: Path
) -> None:
    storage = stored(tmp_path, hints="none")
    assert digest(run("mixed", storage=storage)) == digest(live)


def test_one_teacher_at_a_time_gives_the_same_student(
    run: Any, live: Record, tmp_path: Path
) -> None:
    machine = Machine(teacher_memory="bounded")
    bounded = run("bounded", storage=stored(tmp_path), machine=machine)
    assert digest(bounded) == digest(live)


def test_other_seeds_students_and_methods_find_the_same_answers(run: Any, tmp_path: Path) -> None:
    run("first", storage=stored(tmp_path, "fp16", "none"), method=cg.AvgMKD())
    for name, change in {
        "seed": {"seed": 4},
        "student": {"student": "small:mlp"},
        "method": {"method": cg.AMTML(hint_weight=0.0)},
        "batch": {"optimisation": Optimisation(epochs=2, batch_size=100)},
    }.items():
        options = {"method": cg.AvgMKD(), **change}
        found = run(name, storage=stored(tmp_path, "fp16", "none"), **options)
        assert found.summary["store_hits"] == 1.0, name


@pytest.mark.parametrize(
    ("logits", "hints", "bound"), [("fp16", "fp16", 2e-3), ("fp16", "int8", 5e-3)]
)
def test_rounded_answers_lead_nearly_the_same_way(
    run: Any, live: Record, tmp_path: Path, logits: str, hints: str, bound: float
) -> None:
    rounded = run("rounded", storage=stored(tmp_path, logits, hints))
    assert losses(rounded) == pytest.approx(losses(live), rel=bound)
    assert losses(rounded) != losses(live)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_batch_in_two_parts_is_the_batch_in_one(run: Any, optimizer: str) -> None:
    # No statistic over the batch: no BatchNorm, no relation between examples.
    options: dict[str, Any] = {
        "student": "small:cnn-gn",
        # The smaller label weight: larger steps spread the rounding of other sums further.
        "method": cg.AMTML(angle_weight=0.0, label_weight=None),
        "optimisation": Optimisation(epochs=2, batch_size=128, optimizer=optimizer),  # type: ignore[arg-type]
    }
    whole = run("whole", **options)
    halves = run("halves", machine=Machine(micro_batches=2), **options)
    thirds = run("thirds", machine=Machine(micro_batches=3), **options)
    first = load_file(whole.path("student.safetensors"))
    for parts in (halves, thirds):
        assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)
        for name, value in load_file(parts.path("student.safetensors")).items():
            torch.testing.assert_close(value, first[name], rtol=1e-3, atol=1e-4)
    assert digest(halves) != digest(whole)  # it was another order of sums


def test_what_makes_it_fast_changes_the_losses_in_their_last_digits(run: Any) -> None:
    plain = run("plain", machine=Machine(channels_last=False, fold=False, fused=False))
    assert losses(run("fast")) == pytest.approx(losses(plain), rel=1e-3)


@pytest.mark.slow
def test_compiled_is_eager_within_tolerance(tmp_path: Path) -> None:
    # In processes of their own: the shape checks of the tests break the compiler.
    def cli(words: str) -> None:
        code = "import sys; from collegium.cli.main import main; sys.exit(main())"
        words = f"{words} --quiet --data digits --epochs 3"
        command = [sys.executable, "-c", code, *words.split()]
        subprocess.run(command, check=True, cwd=tmp_path, timeout=600)

    cli("train --model small:cnn-wide --out teacher")
    for how, folder in (("off", "eager"), ("on", "compiled")):
        cli(f"distill --student small:cnn --teacher a=teacher --out {folder} --compile {how}")
    eager, compiled = Record(tmp_path / "eager"), Record(tmp_path / "compiled")
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-3)
    (teacher,) = compiled.teachers
    assert any(change.startswith("compiled in") for change in teacher["changes"])


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_that_stay_encoded_train_the_same_student(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 12)):
        for place in range(count):
            path = tmp_path / "shapes" / split / "ab"[place % 2] / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (10, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels // (1 + place % 2)).save(path)
    fields: dict[str, Any] = {
        "data": f"folder:{tmp_path}/shapes",
        "machine": Machine(workers=workers),
    }
    short = Optimisation(epochs=3, batch_size=16)
    alone = Run(student="small:mlp", method=cg.Vanilla(), optimisation=short, **fields)
    teacher = execute(alone, tmp_path / "t", quiet=True)

    def go(folder: str) -> Record:
        run = Run(
            student="small:cnn",
            teachers={"t": str(teacher.folder)},
            method=cg.AMTML(),
            optimisation=short,
            storage=stored(tmp_path / folder),
            **fields,
        )
        return execute(run, tmp_path / folder, quiet=True)

    decoded = go("decoded")
    monkeypatch.setattr("collegium.data.images.load.free_memory", lambda: 0)
    encoded = go("encoded")
    assert digest(encoded) == digest(decoded)
    assert timeless(encoded) == timeless(decoded)


def test_compiling_waits_for_runs_that_gain() -> None:
    assert not Machine().compiles("cuda", COMPILE_STEPS - 1)
    assert Machine().compiles("cuda", COMPILE_STEPS)
    assert not Machine().compiles("cpu", COMPILE_STEPS)
    assert Machine(compile="on").compiles("cpu", 1)
    assert not Machine(compile="off").compiles("cuda", COMPILE_STEPS)
