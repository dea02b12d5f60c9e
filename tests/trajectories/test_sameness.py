"""Whoever answers, and in however many parts a batch is worked off: the same student."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import collegium as cg
from collegium.record import Record
from collegium.run import Run, execute
from collegium.teachers.store import Store
from collegium.training.options import Machine, Optimisation, Storage

TIMES = ("seconds", "teacher_seconds", "images_per_s")


@pytest.fixture
def run(digits: Any, specialists: Any, tmp_path: Path) -> Any:
    """Distils from the specialists with crops, so that views differ from epoch to epoch."""

    def go(folder: str, method: Any = None, **options: Any) -> Record:
        storage = options.pop("storage", Storage())
        machine = options.pop("machine", Machine())
        fields: dict[str, Any] = {
            "student": "small:cnn",
            "views": 2,
            "augment": "crop",
            "optimisation": Optimisation(epochs=5, batch_size=64),
        }
        run = Run(
            data=digits,
            teachers=specialists,
            method=method or cg.AMTML(),
            storage=storage,
            machine=machine,
            **fields | options,
        )
        return execute(run, tmp_path / folder, quiet=True)

    return go


def digest(record: Record) -> str:
    return hashlib.sha256(record.path("student.safetensors").read_bytes()).hexdigest()


def losses(record: Record) -> list[float]:
    return [line["loss"] for line in record.metrics("train")]


def timeless(record: Record) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in record.metrics()]


def stored(tmp_path: Path, logits: str = "fp32", hints: Any = "fp32") -> Storage:
    return Storage(str(tmp_path / "store"), logits, hints)


def test_stored_is_live_to_the_last_bit(run: Any, tmp_path: Path) -> None:
    live = run("live")
    filled = run("filled", storage=stored(tmp_path))
    found = run("found", storage=stored(tmp_path))
    assert digest(live) == digest(filled) == digest(found)
    assert timeless(live) == timeless(filled) == timeless(found)
    assert np.array_equal(live.weights["weights"], found.weights["weights"])
    hits = [record.summary["store_hits"] for record in (live, filled, found)]
    assert hits == [0.0, pytest.approx(3 / 5), 1.0]  # two views in five epochs
    store = Store(tmp_path / "store", None)
    assert [use["computed"] for use in store.uses()] == [2 * 2 * len(live.weights["index"]), 0]


def test_hints_may_come_from_live_teachers_and_logits_from_the_store(
    run: Any, tmp_path: Path
) -> None:
    storage = stored(tmp_path, hints="none")
    assert digest(run("mixed", storage=storage)) == digest(run("live"))


def test_one_teacher_at_a_time_says_the_same(run: Any, tmp_path: Path) -> None:
    machine = Machine(teacher_memory="bounded")
    bounded = run("bounded", storage=stored(tmp_path), machine=machine)
    assert digest(bounded) == digest(run("live"))


def test_other_seeds_students_and_methods_find_the_same_answers(run: Any, tmp_path: Path) -> None:
    run("first", storage=stored(tmp_path, "fp16", "none"), method=cg.AvgMKD())
    for name, change in {
        "seed": {"seed": 4},
        "student": {"student": "small:mlp"},
        "method": {"method": cg.AMTML(hint_weight=0.0)},
        "batch": {"optimisation": Optimisation(epochs=4, batch_size=100)},
    }.items():
        options = {"method": cg.AvgMKD(), **change}
        found = run(name, storage=stored(tmp_path, "fp16", "none"), **options)
        assert found.summary["store_hits"] == 1.0, name


@pytest.mark.parametrize(
    ("logits", "hints", "bound"), [("fp16", "fp16", 2e-3), ("fp16", "int8", 5e-3)]
)
def test_rounded_answers_lead_nearly_the_same_way(
    run: Any, tmp_path: Path, logits: str, hints: str, bound: float
) -> None:
    live, rounded = run("live"), run("rounded", storage=stored(tmp_path, logits, hints))
    assert losses(rounded) == pytest.approx(losses(live), rel=bound)
    assert losses(rounded) != losses(live)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_batch_in_two_parts_is_the_batch_in_one(run: Any, optimizer: str) -> None:
    # No statistic over the batch: no BatchNorm, no relation between examples.
    options: dict[str, Any] = {
        "student": "small:cnn-gn",
        "method": cg.AMTML(angle_weight=0.0),
        "optimisation": Optimisation(epochs=3, batch_size=128, optimizer=optimizer),  # type: ignore[arg-type]
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
        code = "import sys; from collegium.cli import main; sys.exit(main())"
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
