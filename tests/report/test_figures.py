"""What a record and a comparison show in a notebook, and what their figures leave as files."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collegium.errors import FolderError, UnknownNameError
from collegium.plots.drawing import AbstractDrawing
from collegium.records.comparison import Comparison
from collegium.records.run_folder import (
    METRICS,
    PREDICTIONS,
    RUN,
    SUMMARY,
    TEACHERS,
    WEIGHTS,
    Record,
)

Folder = Callable[..., Record]
HOSTILE = "<script>alert(1)</script>\"'&"
FIGURES = sorted(name for name in vars(AbstractDrawing) if name.startswith("plot_"))


def hinted(record: Record) -> Record:
    """The run, as if it had compared layers."""
    lines = record.metrics()
    record.path(METRICS).unlink()
    for line in lines:
        hints = {"loss.hint.wide": 0.2} if line["split"] == "train" else {}
        record.append_metrics(line | hints)
    return record


def texts(svg: str) -> list[str]:
    """What is written in a drawing, which must be XML."""
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter()]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_shows_itself_and_is_saved(folder: Folder, tmp_path: Path, name: str) -> None:
    record = hinted(folder(teachers=(HOSTILE, "dense"), classes=(HOSTILE, "dog", "owl")))
    figure = getattr(record, name)()
    shown = figure._repr_html_()
    assert "<svg" in shown
    assert figure.name.split("<")[0] in shown
    assert "<script" not in shown + figure._repr_svg_()
    path = figure.save(tmp_path / "figure.svg")
    assert path.read_text() == figure._repr_svg_()
    assert ElementTree.fromstring(path.read_text()).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_what_is_not_there_says_why(folder: Folder, name: str) -> None:
    record = folder(teachers=(), method="vanilla", epochs=1)
    for part in (METRICS, SUMMARY, PREDICTIONS):
        record.path(part).unlink()
    with pytest.raises(FolderError, match=r"nothing to draw here: \w+"):
        getattr(record, name)()


def test_the_figures_are_of_the_record(folder: Folder) -> None:
    record = folder()
    assert [line.name for line in record.plot_weights().lines] == ["wide", "dense"]
    assert record.plot_weights().lines[0].y == [0.5, 0.5, 0.5]
    assert [line.name for line in record.plot_losses().lines] == ["sum", "ce", "kd"]
    assert record.plot_accuracy().levels == {"best teacher": 0.7}
    predicted, labels = record.predictions["student"], record.predictions["labels"]
    cells = record.plot_confusions().table.rows[0][1:]
    row = [(predicted[labels == 0] == place).mean() for place in range(3)]
    assert [cell.sort for cell in cells] == pytest.approx([100 * part for part in row])
    assert "cat" in texts(record.plot_classes().alone())


def test_confusions_are_with_the_truth_or_a_teacher_that_is_there(folder: Folder) -> None:
    record = folder()
    assert "the truth" in record.plot_confusions().name
    assert "dense" in record.plot_confusions("dense").name
    with pytest.raises(UnknownNameError, match="did you mean 'dense'"):
        record.plot_confusions("dens")


def test_a_figure_is_saved_as_svg_alone(folder: Folder, tmp_path: Path) -> None:
    figure = folder().plot_weights()
    for path in (tmp_path / "a.png", tmp_path / "a", tmp_path / "nowhere/a.svg"):
        with pytest.raises(FolderError, match=r"svg|cannot write"):
            figure.save(path)
    assert not list(tmp_path.glob("a*"))


def test_a_record_shows_its_answer_its_teachers_and_its_curves(folder: Folder) -> None:
    shown = folder()._repr_html_()
    assert "reaches 50.00 % on the test split" in shown
    assert shown.count("<svg") == 2
    assert "<th>wide</th>" in shown
    assert "http" not in shown


def test_what_a_record_shows_is_escaped(folder: Folder) -> None:
    record = folder(teachers=(HOSTILE, "b"), classes=(HOSTILE, "dog"), method=HOSTILE)
    shown = record._repr_html_()
    assert "alert(1)" in shown
    assert "<script" not in shown


@pytest.mark.parametrize("part", [RUN, SUMMARY, TEACHERS, METRICS, WEIGHTS, PREDICTIONS])
@pytest.mark.parametrize("content", [None, b"", b'{"epoch": 0, "loss": {}}\n'])
def test_a_damaged_record_still_shows_something(folder: Folder, part: str, content: Any) -> None:
    record = folder()
    if content is None:
        record.path(part).unlink()
    else:
        record.path(part).write_bytes(content)
    assert "collegium" in record._repr_html_()


def test_a_run_that_is_going_says_so(folder: Folder) -> None:
    record = folder(epochs=2)
    for part in (SUMMARY, WEIGHTS, PREDICTIONS):
        record.path(part).unlink()
    assert "No answer yet" in record._repr_html_()
    assert "after 2 of 2 epochs" in record._repr_html_()
    with pytest.raises(FolderError, match="the run did not get there"):
        record.plot_classes()


def row(name: str, gap: float | None) -> dict[str, Any]:
    return {"method": name, "minus_alone": gap, "minus_alone_half_width": gap and 0.5}


def test_a_comparison_draws_its_differences(tmp_path: Path) -> None:
    found = Comparison({"rows": [row("vanilla", None), row(HOSTILE, 2.0), row("kd", 1.0)]})
    chart = found.plot_differences()
    assert chart.y.names == (HOSTILE, "kd")
    assert [mark.x for mark in chart.marks] == [1.5, 2.0, 2.5, 0.5, 1.0, 1.5]
    assert "<script" not in chart._repr_html_()
    assert max(chart.marks, key=lambda mark: mark.size).size == 5.5
    with pytest.raises(FolderError, match="no row of this comparison"):
        Comparison({"rows": [row("vanilla", None)]}).plot_differences()


@pytest.mark.parametrize("content", [None, "", "[]", '{"rows": 3}'])
def test_what_is_no_comparison_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "compare.json").write_text(content)
    with pytest.raises(FolderError, match=r"compare\.json"):
        Comparison.read(tmp_path)
