"""`collegium compare`: a fair table, resumable, in words."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from collegium.cli.main import read
from collegium.comparison.run import Job, _check_same
from collegium.config.run import Run
from collegium.errors import FolderError, RequestError, UnknownNameError
from collegium.methods.kd import KD
from collegium.methods.method_string import read_row, read_rows, shared_strength
from collegium.records.comparison import Outcomes, answer, make_table, markdown, paired
from collegium.records.run_folder import Record

METHODS = "avg_mkd,kd:teacher=wide,kd:weighting=entropy:standardise=true"


@pytest.fixture
def compare(command: Any, teachers: dict[str, Path]) -> Any:
    """Runs a short `collegium compare`, with further words."""
    named = " ".join(f"--teacher {name}={folder}" for name, folder in teachers.items())
    start = f"compare --data digits --student small:cnn {named} --epochs 2 --jobs 1 --quiet"
    return lambda words: command(f"{start} {words}")


def test_every_row_has_the_same_splits_starts_and_pixels(compare, command) -> None:
    result = compare(f"--methods {METHODS} --seeds 2 --out table --json")
    assert result.code == 0, result.err
    rows = {line["method"]: line for line in result.json["rows"]}
    assert list(rows) == ["vanilla", *METHODS.split(",")]
    assert result.json["control"] == "avg_mkd"
    assert rows["vanilla"]["minus_alone"] is None
    assert rows["avg_mkd"]["minus_control"] is None
    assert all(line["n"] == 2 and not line["failures"] for line in rows.values())
    runs = [json.loads(path.read_text()) for path in Path("table").glob("runs/*/seed-1/run.json")]
    assert len(runs) == 4
    for key in ("seed", "views", "validation", "augment", "fingerprint", "optimisation"):
        assert len({json.dumps(run[key]) for run in runs}) == 1, key
    taught = [run["options"] for run in runs if run["options"]]
    assert {(options["temperature"], options["alpha"]) for options in taught} == {(4.0, 0.9)}
    records = [Record(path) for path in Path("table").glob("runs/*/seed-1")]
    seen = [sorted(r.weights["index"].tolist()) for r in records if r.path("weights.npz").exists()]
    assert len([index for index in seen if index == seen[0]]) >= 3
    table = list(csv.DictReader(Path("table/compare.csv").read_text().splitlines()))
    assert [line["method"] for line in table] == list(rows)
    assert Path("table/compare.md").read_text().startswith("Did distillation help?")
    assert json.loads(Path("table/compare.json").read_text())["answer"] == result.json["answer"]
    # A report knows the rows by their names and in their order, not by their folders.
    assert command("report table").code == 0
    page = Path("table/report.html").read_text()
    first = page.index(">vanilla (student alone)<")  # charts before the table have names too
    places = [page.find(f">{name}<", first) for name in METHODS.split(",")]
    assert first < places[0]
    assert places == sorted(places)
    assert places[0] > 0


def test_the_best_test_epoch_is_shown_on_request_and_labelled(compare) -> None:
    plain = compare("--methods avg_mkd --seeds 1 --out plain --json").json
    requested = compare("--methods avg_mkd --seeds 1 --out asked --best-test --json").json
    assert plain["rows"][1]["accuracy_best_test"] is None
    record = Record("asked/runs/avg_mkd/seed-0")
    seen = [line["accuracy"] for line in record.metrics("watched")]
    assert len(seen) == 2
    assert requested["rows"][1]["accuracy_best_test"] == max(seen)
    # Looking does not change anything: it is the same student.
    assert requested["rows"][1]["accuracy_last"] == plain["rows"][1]["accuracy_last"] == seen[-1]
    assert "best test epoch (optimistic)" in Path("asked/compare.md").read_text()
    assert "optimistic" not in Path("plain/compare.md").read_text()


def test_what_is_there_is_used_and_what_is_not_is_run(compare) -> None:
    first = compare("--methods avg_mkd --seeds 2 --out table --json").json
    student = Path("table/runs/avg_mkd/seed-1/student.safetensors")
    before = load_file(student)
    kept = Path("table/runs/avg_mkd/seed-0/student.safetensors").stat().st_mtime_ns
    shutil.rmtree(student.parent)
    again = compare("--methods avg_mkd --seeds 2 --out table --json").json
    assert Path("table/runs/avg_mkd/seed-0/student.safetensors").stat().st_mtime_ns == kept
    assert all((value == load_file(student)[key]).all() for key, value in before.items())
    times = ("images_per_s", "seconds")
    for one, other in zip(first["rows"], again["rows"], strict=True):
        assert {k: v for k, v in one.items() if k not in times} == {
            k: v for k, v in other.items() if k not in times
        }
    more = compare("--methods avg_mkd,dist --seeds 3 --out table --json").json
    assert [line["n"] for line in more["rows"]] == [3, 3, 3]
    result = compare("--methods avg_mkd --seeds 2 --out table --lr 0.2")
    assert result.code == 2
    assert "was run with other options: lr None then, 0.2 now" in result.err
    # Arithmetic decides, too: what was made in float32 is no row of bfloat16.
    for words, named in {
        "--precision bf16": "precision 32 then, bf16 now",
        "--no-fold": "fold True then, False now",
        "--no-channels-last": "channels_last True then, False now",
        "--compile on": "compile auto then, on now",
        "--micro-batches 2": "micro_batches 1 then, 2 now",
    }.items():
        result = compare(f"--methods avg_mkd --seeds 2 --out table {words}")
        assert (result.code, named in result.err) == (2, True), result.err


def test_a_row_that_fails_is_reported_and_the_rest_go_on(compare, command, tmp_path) -> None:
    Path("flat.py").write_text(
        "from torch import nn\n"
        "def build(classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    trained = "train --data digits --model flat.py:build --epochs 1 --out flat --quiet"
    assert command(trained).code == 0
    result = compare("--methods avg_mkd,at --seeds 1 --teacher flat=flat --out table --json")
    assert result.code == 1
    rows = {line["method"]: line for line in result.json["rows"]}
    assert rows["avg_mkd"]["n"] == 1
    assert rows["at"]["n"] == 0
    assert "teacher flat has none that can be read" in rows["at"]["failures"]["0"]
    assert "at, seed 0: at compares hidden layers" in Path("table/compare.md").read_text()


@pytest.mark.slow
def test_processes_side_by_side_make_the_same_table(compare, all_digits) -> None:
    # Processes do not share the few digits of this one.
    compare("--methods avg_mkd,amtml --seeds 2 --out one --threads 1")
    compare("--methods avg_mkd,amtml --seeds 2 --out two --threads 1 --jobs 2")
    for path in Path("one").glob("runs/*/*/student.safetensors"):
        assert path.read_bytes() == ("two" / path.relative_to("one")).read_bytes()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--methods avg_mkdd", "did you mean 'avg_mkd'"),
        ("--methods kd:temprature=2", "did you mean 'temperature'"),
        ("--methods kd:temperature=hot", "temperature takes float, found 'hot'"),
        ("--methods kd:weighting=entropic", "did you mean 'entropy'"),
        ("--methods kd:standardise=perhaps", "standardise takes bool"),
        ("--methods kd:teacher", "options are option=value, found 'teacher'"),
        ("--methods amtml:preset=figur", "did you mean 'figure'"),
        ("--methods kd,kd", "has kd twice"),
        ("--methods ,", "names no method"),
        ("--methods kd --control dkd", "unknown control 'dkd'"),
        ("--methods kd --seeds 0", "must be at least 1"),
        ("--methods kd --alpha -1", "alpha must be >= 0"),
        ("--methods kd --alpha 2 --label-weight None", "alpha must be between 0 and 1"),
        ("--methods kd --label-weight -1", "label_weight must be >= 0"),
    ],
)
def test_comparisons_that_make_no_sense_are_refused(compare, words, complaint) -> None:
    result = compare(f"{words} --out table")
    assert result.code == 2
    assert complaint in result.err
    assert "\n" not in result.err.strip()
    assert not Path("table").exists()


def test_a_row_is_read_into_a_method() -> None:
    name = "aekd:tolerance=0.8:normalise-gradients=yes:mix=probs"
    row = read_row(name, {"temperature": 2.0, "alpha": 0.7})
    method: Any = row.method
    assert (method.tolerance, method.normalise_gradients, method.mix) == (0.8, True, "probs")
    assert (method.temperature, method.alpha, method.ce_weight) == (2.0, 0.7, 1.0)
    strength = {"temperature": 4.0, "alpha": 0.9}
    fixed: Any = read_row("fixed:shares=a=1+b=2.5", strength).method
    assert fixed.shares == ("a=1", "b=2.5")
    own: Any = read_row("kd:temperature=9", strength).method
    assert (own.temperature, own.alpha) == (9.0, 0.9)
    hints: Any = read_row("fitnets", strength).method
    assert (hints.alpha, hints.ce_weight) == (0.0, 1.0)


@pytest.mark.parametrize("label_weight", [None, 0.0, 0.4])
def test_the_label_has_one_weight_in_all_rows_that_name_none(label_weight: float | None) -> None:
    soft = "kd,gated,amtml,ca_mkd,dkd,fitnets:alpha=0.5"
    names = f"{soft},rkd,kd:label-weight=0.7,avg_mkd:label_weight=none"
    rows = read_rows(names, 4.0, 0.8, True, label_weight)
    found = {row.name: row.method for row in rows}
    for name in soft.split(","):
        method: Any = found[name]
        left = pytest.approx(1 - method.alpha)
        assert method.ce_weight == (left if label_weight is None else label_weight), name
    own: Any = found["kd:label-weight=0.7"], found["avg_mkd:label_weight=none"]
    assert [method.ce_weight for method in own] == [0.7, pytest.approx(0.2)]
    hints: Any = found["rkd"]
    assert hints.ce_weight == (1.0 if label_weight is None else label_weight)
    figure: Any = found["amtml:preset=figure"]
    assert (figure.alpha, figure.ce_weight) == (0.7, pytest.approx(0.3))
    strength = {"temperature": 4.0, "alpha": 0.8, "label_weight": label_weight}
    assert shared_strength(rows) == strength
    table = make_table([outcomes(name, 0.5) for name in ("vanilla", "kd")], "vanilla")
    shown = "1 - alpha" if label_weight is None else f"{label_weight:g}"
    assert f"temperature 4, alpha 0.8, label weight {shown}." in markdown(
        table | {"strength": strength}
    )
    assert "own.\n" in markdown(table)


def test_published_rows_keep_their_strength() -> None:
    rows = read_rows("dkd,amtml,kd", 4.0, 0.9, published=True)
    assert [row.name for row in rows] == [
        "vanilla",
        "dkd",
        "amtml",
        "kd",
        "dkd:preset=published",
        "amtml:preset=figure",
    ]
    assert [row.published for row in rows] == [False] * 4 + [True] * 2
    published: Any = rows[4].method
    assert (published.alpha, published.label_weight) == (1.0, 1.0)
    with pytest.raises(UnknownNameError):
        read_rows("dkd:preset=nothing", 4.0, 0.9)
    with pytest.raises(RequestError):
        read_rows("", 4.0, 0.9)


def test_a_comparison_of_an_earlier_version_goes_on_where_it_meant_the_same(
    tmp_path: Path,
) -> None:
    def task(**options: Any) -> Job:
        return Job("kd", Run("digits", "small:cnn", {"a": "b"}, KD(**options)), tmp_path)

    old = task(label_weight=None).run.to_json()
    for key in ("class_weights", "label_smoothing"):
        del old[key]
    (tmp_path / "run.json").write_text(json.dumps(old))
    _check_same(task(label_weight=None))
    with pytest.raises(FolderError, match="label_weight None then"):
        _check_same(task())
    smooth = dataclasses.replace(task(label_weight=None).run, label_smoothing=0.1)
    with pytest.raises(FolderError, match="label_smoothing"):
        _check_same(Job("kd", smooth, tmp_path))


def outcomes(name: str, *accuracies: float) -> Outcomes:
    runs = {seed: {"accuracy_last": value} for seed, value in enumerate(accuracies)}
    return Outcomes(name, False, runs, {})


def test_paired_differences_by_hand() -> None:
    gap = paired({0: 0.91, 1: 0.92, 2: 0.96, 7: 0.1}, {0: 0.90, 1: 0.90, 2: 0.93})
    assert gap is not None
    assert (gap.n, gap.mean) == (3, pytest.approx(2.0))
    assert gap.half_width == pytest.approx(4.302653 * 1.0 / 3**0.5, rel=1e-5)
    assert gap.p == pytest.approx(0.0741799, rel=1e-4)  # t = 2 sqrt 3 with two degrees of freedom
    assert gap.verdict == "no significant difference"
    assert paired({0: 0.5}, {1: 0.5}) is None
    single = paired({0: 0.5}, {0: 0.4})
    assert single is not None
    assert (single.half_width, single.p) == (None, None)
    same = paired({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6})
    assert same is not None
    assert (same.mean, same.half_width, same.p) == (0.0, 0.0, 1.0)


def test_the_answer_is_in_words() -> None:
    alone = outcomes("vanilla", 0.90, 0.91, 0.92)
    good, bad = outcomes("kd", 0.92, 0.93, 0.9405), outcomes("at", 0.80, 0.81, 0.8205)
    sentence = answer({"vanilla": alone, "kd": good, "at": bad})
    assert sentence.startswith("Did distillation help? Yes: kd, the best of 2, is +2.02")
    assert answer({"vanilla": alone, "at": bad}).startswith("Did distillation help? No: at")
    unsure = outcomes("kd", 0.95, 0.88, 0.93)
    assert "Unclear" in answer({"vanilla": alone, "kd": unsure})
    assert "one seed does not show" in answer({"vanilla": alone, "kd": outcomes("kd", 0.9)})
    assert "Unknown" in answer({"vanilla": outcomes("vanilla"), "kd": good})


def test_names_cannot_break_the_table() -> None:
    rows = [outcomes("vanilla", 0.9), Outcomes("kd|x", False, {}, {0: "broke"})]
    text = markdown(make_table(rows, "vanilla"))
    assert "kd\\|x" in text
    assert "| failed |" in text
    assert "- kd|x, seed 0: broke" in text


def test_help_names_the_options() -> None:
    assert read("compare", ["--help"]) is None


def test_many_more_jobs_than_cores_are_refused(compare) -> None:
    result = compare("--methods kd --seeds 1 --out many --jobs 5000")
    assert (result.code, "give at most" in result.err) == (2, True)
    assert not Path("many").exists()
