"""Results: one declaration of each key, and one definition of each metric."""

import ast
import dataclasses
import json
import re
from pathlib import Path

import pytest

from collegium.api import evaluate
from collegium.audit.examine import audit
from collegium.export.export import export_student
from collegium.records.comparison import ComparisonRow
from collegium.records.results import Evaluation, MetricsLine, Summary, TeacherRecord
from collegium.records.run_folder import Record
from collegium.records.schema import FlatRecord, declared

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/run-folder.md"
DOCUMENTED = (Summary, MetricsLine, TeacherRecord, Evaluation)


def table(kind: type[FlatRecord]) -> str:
    """The rows of the table of docs/run-folder.md, from the docstring of a record."""
    text = " ".join(str(kind.__doc__).partition("Attributes:")[2].split())
    names = [item.name for item in declared(kind)]
    parts = re.split(rf"(?:^| )({'|'.join(names)}): ", text)
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(texts) == names
    keys = {item.name: f"{item.start}{item.by}" or item.name for item in declared(kind)}
    return "".join(f"| `{keys[name]}` | {texts[name].rstrip('.')} |\n" for name in names)


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_the_page_documents_the_declared_keys(kind: type[FlatRecord]) -> None:
    assert table(kind) in PAGE.read_text()


def test_a_record_is_the_json_that_it_is_read_from() -> None:
    line = MetricsLine(
        epoch=1, step=9, split="train", accuracy=0.5, loss=2.0, terms={"kd": 2.0}, skipped=3
    )
    assert line == {
        **{"epoch": 1, "step": 9, "split": "train", "accuracy": 0.5},
        **{"loss.kd": 2.0, "loss": 2.0, "skipped": 3},
    }
    again = MetricsLine.read(json.loads(json.dumps(line)) | {"of a later version": [1]})
    assert dataclasses.asdict(again) == dataclasses.asdict(line)
    assert again["of a later version"] == [1]
    assert json.dumps(dataclasses.replace(again, warning="w")).endswith('"warning": "w"}')


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (Summary, "accuracy_last", 1.5),
        (Summary, "accuracy.wide", None),
        (Summary, "weights.wide", "much"),
        (Summary, "ece", float("nan")),
        (Summary, "best_epoch", 1.5),
        (MetricsLine, "epoch", -1),
        (MetricsLine, "loss.kd", {}),
        (MetricsLine, "accuracy", True),
        (TeacherRecord, "classes", [1]),
        (ComparisonRow, "failures", {"0": 1}),
    ],
)
def test_a_value_of_another_kind_is_named(kind: type[FlatRecord], key: str, value: object) -> None:
    assert kind.wrong_keys({key: value, "of a later version": value}) == [key]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Summary, {"best_epoch": None, "accuracy_at_best_validation": None, "ece": 0}),
        (MetricsLine, {"loss": float("inf"), "loss.kd": float("nan"), "step": 0}),
        (TeacherRecord, {"labels": [{"theirs": ["a"], "ours": ["b"]}], "accuracy": 1}),
    ],
)
def test_values_that_a_run_may_write_are_read(kind: type[FlatRecord], content: dict) -> None:
    assert kind.wrong_keys(content) == []


# Folders whose functions define losses or look at single batches; optimize.py and the plots are
# below evaluation/ and compare classes, not logits with labels.
OTHER = ("evaluation", "losses", "methods", "weighting", "objectives", "models", "data", "plots")


def written_by_hand(source: str) -> list[int]:
    """Lines that compute a metric of logits: argmax compared with something, a mean cross entropy,
    the mean of something boolean."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            calls = [side.func for side in sides if isinstance(side, ast.Call)]
            found += [node.lineno for call in calls if getattr(call, "attr", "") == "argmax"]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "F.cross_entropy":
            found.append(node.lineno)
        if isinstance(node, ast.Call) and ast.unparse(node).endswith("_N.double().mean().item()"):
            found.append(node.lineno)
    return found


def test_metrics_are_defined_in_evaluation_only() -> None:
    files = [p for p in (ROOT / "collegium").rglob("*.py") if p.parent.name != "evaluation"]
    found = {
        str(path.relative_to(ROOT / "collegium")): lines
        for path in files
        if path.relative_to(ROOT / "collegium").parts[0] not in OTHER
        and (lines := written_by_hand(path.read_text()))
    }
    # A check on one batch, before any split is looked at; teachers/ is below evaluation/.
    assert set(found) == {"teachers/optimize.py"}


def test_the_search_finds_what_it_looks_for() -> None:
    assert written_by_hand("right_N = logits_NC.argmax(dim=1) == labels_N") == [1]
    assert written_by_hand("loss = F.cross_entropy(logits_NC, labels_N).item()") == [1]
    assert written_by_hand("\npart = right_N.double().mean().item()") == [2]
    assert written_by_hand("best = int(shares_T.argmax())") == []


def test_every_command_measures_the_same(distil, command, teachers: dict[str, Path]) -> None:
    coarse = {str(digit): [str(digit)] for digit in range(8)} | {"8": ["8", "9"], "9": None}
    Path("coarse.json").write_text(json.dumps(coarse))
    words = f"--teacher coarse={teachers['wide']} --labels coarse=coarse.json"
    assert distil(f"{words} --out run avg_mkd").code == 0
    record = Record("run")
    summary, line = record.summary, record.metrics("test")[0]
    # The student: the summary, the test line, `evaluate`, the check of an export.
    result = command("evaluate --model run --data digits --json")
    assert result.code == 0, result.err
    student = result.json
    assert summary.accuracy_last == line.accuracy == student["accuracy"]
    assert student["ece"] == pytest.approx(summary.ece, abs=1e-6)
    assert student["loss"] == pytest.approx(line.loss, abs=1e-6)
    exported = export_student(record.folder, format="safetensors", quiet=True)
    assert exported["accuracy"] == exported["accuracy_recorded"] == summary.accuracy_last
    assert exported["rows"][1]["agreement"] == 1.0
    # The teachers: the summary, `evaluate`, `audit`.
    models = {name: str(folder) for name, folder in teachers.items()}
    models["coarse"] = models["wide"]
    found = audit(models, "digits", split="test", probe=0, labels={"coarse": coarse}, quiet=True)
    rows = {row["name"]: row for row in found["teachers"]}
    for name, model in models.items():
        alone = evaluate(model, "digits", labels=coarse if name == "coarse" else None)
        assert alone.accuracy == summary.accuracy[name] == rows[name]["accuracy"]
        assert alone.ece == pytest.approx(rows[name]["ece"], abs=1e-6)
    single = found["head_room"]["single_T"]
    assert single == [rows[name]["accuracy"] for name in found["head_room"]["teachers"]]
