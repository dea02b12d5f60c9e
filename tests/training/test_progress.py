"""The progress line: what it says, where it fits, and that it is silent where it should be."""

import io
import logging
import types
from typing import Any

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from collegium.training.metrics import Meter
from collegium.types import Batch
from collegium.utils.progress import CONSOLE, LOGGER, Display
from collegium.utils.progress_line import Moment


@pytest.fixture(autouse=True)
def console(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the console that `display` replaces."""
    monkeypatch.setattr(CONSOLE, "console", CONSOLE.console)


def display(terminal: bool, quiet: bool = False, width: int = 100) -> Display:
    shown = Display(quiet, "amtml")
    kind: dict[str, Any] = {"force_terminal": terminal, "width": width, "highlight": False}
    CONSOLE.console = Console(file=io.StringIO(), **kind)
    return shown


def said(shown: Display) -> str:
    assert isinstance(CONSOLE.console.file, io.StringIO)
    return CONSOLE.console.file.getvalue()


def state(step: int = 3) -> Any:
    """A training within its first epoch of ten steps."""
    meter = Meter(["wide", "deep"])
    labels_B = torch.zeros(4, dtype=torch.long)
    batch = Batch(torch.zeros(4, 1, 8, 8), labels_B, torch.arange(4), labels_B)
    weights_BT = torch.tensor([[0.75, 0.25]]).expand(4, 2)
    meter.add(batch, {"ce": torch.ones(4), "kd": torch.ones(4)}, weights_BT, torch.eye(4))
    progress = types.SimpleNamespace(epoch=0, step=step, steps=10, epoch_seconds=2.0)
    return types.SimpleNamespace(progress=progress, meter=meter)


def step(shown: Display, training: Any) -> None:
    """One step of that training is done."""
    shown.step(training.progress, training.meter.means)


LINE = {"epoch": 0, "loss": 2.0, "accuracy": 0.5, "images_per_s": 9.0}
HEARD = {"weights.wide": 0.7, "weights.deep": 0.3, "weights_entropy": 0.5}


def test_the_line_of_a_terminal_changes_within_the_epoch() -> None:
    shown = display(True)
    with shown.training(2, 10):
        step(shown, state())
        text = said(shown)
        assert "epoch 1/2  30 %  loss 2.000  train 25.0 %  2 images/s" in text
        assert "wide ▆ 0.75 deep ▂ 0.25" in text
        step(shown, state(4))  # too soon to look again
        assert said(shown) == text
        shown.epoch(LINE | HEARD, {"accuracy": 0.6})
    assert "epoch 1/2  loss 2.000  train 50.0 %  val 60.0 %" in said(shown)
    assert all(cell_len(line) < 300 for line in said(shown).splitlines())


def test_without_a_terminal_there_are_plain_lines_and_few() -> None:
    shown = display(False)
    with shown.training(2, 10):
        step(shown, state())
        assert said(shown) == ""
        shown._due = 0.0  # a minute later
        step(shown, state())
        step(shown, state())
        shown.epoch(LINE | HEARD, None)
    inside, end = said(shown).splitlines()
    assert "30 %" in inside
    assert end.startswith("amtml  epoch 1/2  loss 2.000")
    assert "weights wide 0.70 deep 0.30" in end
    assert "\x1b" not in said(shown)


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_says_nothing_but_warnings(terminal: bool) -> None:
    shown = display(terminal, quiet=True)
    with shown.training(2, 10):
        shown._due = 0.0
        step(shown, state())
        shown.epoch(LINE | HEARD, None)
        assert said(shown) == ""
        shown.warn("hot")
    assert "warning: amtml: hot" in said(shown)


def test_an_epoch_without_a_sound_step_has_no_line_yet() -> None:
    shown, nothing = display(True), state()
    nothing.meter = Meter(["wide"])
    with shown.training(2, 10):
        step(shown, nothing)
        assert "epoch" not in said(shown)


def test_the_meter_is_not_looked_at_before_it_is_time() -> None:
    shown, now = display(True), state()
    with shown.training(2, 10):
        step(shown, now)
        now.meter = types.SimpleNamespace(means=lambda: 1 / 0)
        step(shown, now)


@pytest.mark.parametrize("count", [0, 1, 3, 100])
@pytest.mark.parametrize("width", [1, 8, 20, 40, 79, 120, 200])
@pytest.mark.parametrize("name", ["teacher", "先生", "[red]", "a" * 60])
def test_the_line_fits_whatever_the_width_and_the_teachers(
    count: int, width: int, name: str
) -> None:
    weights = {f"{name}{number}": 1 / count for number in range(count)}
    moment = Moment(name, 300, 300, 0.5, 1234.5, 1.0, None, weights, 123456.0, 360000.0)
    text = moment.fitted(width)
    assert cell_len(text) <= width
    if width >= 40:
        assert "300/300" in text
        assert any(block in text for block in "▁▂▃▄▅▆▇█") == (count > 1)


def test_a_file_is_told_the_heaviest_of_many() -> None:
    weights = {f"t{number}": number / 4950 for number in range(100)}
    text = Moment("kd", 1, 2, None, 1.0, 0.5, 0.6, weights, 10.0, 5.0).plain()
    assert text.endswith("t98 0.02 t99 0.02 and 92 more")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_handler_of_the_host_gets_every_line(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", records.append)
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    shown = display(terminal)
    with shown.training(2, 10):
        shown._due = 0.0
        step(shown, state())
        shown.epoch(LINE | HEARD, None)
        shown.warn("hot")
    assert said(shown) == ""
    levels = [(record.levelname, record.getMessage()) for record in records]
    assert [level for level, _ in levels] == ["INFO", "INFO", "WARNING"]
    assert "epoch 1/2  loss 2.000" in levels[1][1]
    assert levels[2][1] == "hot"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_host_silences_everything_below_a_level(terminal: bool) -> None:
    shown, level = display(terminal), LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        with shown.training(2, 10):
            shown.epoch(LINE | HEARD, None)
            shown.warn("hot")
    finally:
        LOGGER.setLevel(level)
    assert "epoch" not in said(shown)
    assert "warning: hot" in said(shown)
