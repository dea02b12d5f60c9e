"""TensorBoard: what metrics.jsonl says, said once, whatever happened to the run in between."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collegium.cli.main import main
from collegium.errors import RequestError
from collegium.records.run_folder import EVENTS, RUN, Record
from collegium.records.tensorboard import tag, wants_events, written_to

LINES: list[dict[str, Any]] = [
    {"epoch": 0, "step": 10, "split": "train", "loss": 2.0, "loss.kd": 1.5, "seconds": 5.0},
    {"epoch": 0, "step": 10, "split": "validation", "accuracy": 0.5, "seconds": 1.0},
    {"epoch": 1, "step": 20, "split": "train", "loss": 1.0, "loss.kd": 0.5, "seconds": 5.0},
    {"epoch": 1, "step": 20, "split": "validation", "accuracy": 0.6, "seconds": 1.0},
]


@pytest.fixture
def scalars() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    """Reads every event of a folder as it lies there, by tag: steps and values."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = {}
        for path in folder.glob("events*"):
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name == "scalars":
                        number = float(make_ndarray(value.tensor).item())
                        found.setdefault(value.tag, []).append((event.step, round(number, 5)))
        return found

    return read


def write(folder: Path, *lines: dict[str, Any]) -> None:
    with written_to(folder, events=True) as record:
        for line in lines:
            record.append_metrics(line)


def test_events_say_what_metrics_say_and_a_resumed_run_says_it_once(
    tmp_path: Path, scalars: Any
) -> None:
    Record(tmp_path).write_json(RUN, {"method": "kd", "optimisation": {"lr": None}})
    write(tmp_path, *LINES[:3])
    with written_to(tmp_path, events=True) as record:  # it was stopped before it was validated
        record.keep_metrics(1)
        for line in LINES[2:]:
            record.append_metrics(line)
    found = scalars(tmp_path / EVENTS)
    assert found["loss/train"] == [(10, 2.0), (20, 1.0)]
    assert found["accuracy/validation"] == [(10, 0.5), (20, 0.6)]
    wanted = {
        tag(k, str(li["split"])) for li in LINES for k in li if k not in ("epoch", "step", "split")
    }
    assert found.keys() == wanted
    assert len(list((tmp_path / EVENTS).iterdir())) == 1


def test_without_being_asked_nothing_is_written(tmp_path: Path) -> None:
    assert not wants_events(tmp_path, requested=False, resume=False)
    with written_to(tmp_path, events=False) as record:
        record.append_metrics(LINES[0])
    assert not (tmp_path / EVENTS).exists()


def test_a_run_that_goes_on_goes_on_with_its_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    (tmp_path / EVENTS).mkdir()
    assert wants_events(tmp_path, requested=False, resume=True)
    assert not wants_events(tmp_path, requested=False, resume=False)


def test_a_missing_package_is_said_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r'pip install "collegium\[tensorboard\]"'):
        wants_events(tmp_path, requested=True, resume=False)


def test_the_command_writes_events_and_a_new_run_forgets_them(tmp_path: Path, scalars: Any) -> None:
    words = f"train --data digits --model small:cnn --epochs 1 --quiet --out {tmp_path}/run"
    assert main([*words.split(), "--tensorboard"]) == 0
    found = scalars(tmp_path / "run" / EVENTS)
    last = Record(tmp_path / "run").summary["accuracy_last"]
    assert found["accuracy/test"] == [(found["lr/train"][0][0], round(last, 5))]
    Record.create(tmp_path / "run", overwrite=True).drop_previous()
    assert not (tmp_path / "run" / EVENTS).exists()
