"""`collegium audit`: tables for people, JSON for the rest, files, and a store that is filled."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collegium.records.run_folder import Record
from collegium.store import StoreWriter

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def audited(command: Any, teachers: dict[str, Path]) -> Any:
    """Runs `collegium audit` on two teachers of digits, with further words."""
    named = " ".join(f"--teacher {name}={folder}" for name, folder in teachers.items())
    return lambda words="": command(f"audit --data digits {named} {words}")


def keys(value: Any) -> set[str]:
    """All keys there are in a JSON object."""
    if isinstance(value, dict):
        return set(value) | {key for item in value.values() for key in keys(item)}
    return {key for item in value for key in keys(item)} if isinstance(value, list) else set()


def test_an_audit_is_printed_kept_and_found_again(audited) -> None:
    result = audited("--student small:cnn --store answers --out audit --probe 128")
    assert result.code == 0, result.err
    assert result.out.startswith("2 teachers on 39 images of the validation split of digits")
    for title in ("How good they are", "What they cost", "Agreement", "Together"):
        assert title in result.out
    assert "\x1b[" not in result.out  # no colours in a pipe
    assert result.out.rstrip().endswith("results saved to audit")
    found = json.loads(Path("audit/audit.json").read_text())
    assert [row["name"] for row in found["teachers"]] == ["wide", "residual"]
    assert found["student"]["parameters"] == 1702
    assert 0 <= found["head_room"]["mean"] <= found["head_room"]["oracle"] + 0.05
    assert "## Agreement" in Path("audit/audit.md").read_text()
    page = Path("audit/audit.html").read_text()
    assert page.count("<svg") == 3
    assert page.count('class="scroll heat"') == 2
    assert "http" not in page.replace("http://www.w3.org", "")
    again = audited("--student small:cnn --store answers --quiet --json --probe 0").json
    for one, other in zip(found["teachers"], again["teachers"], strict=True):
        assert one["accuracy"] == other["accuracy"]
        assert one["loss"] == other["loss"]
    live = audited("--quiet --json --probe 0").json
    assert live["head_room"] == again["head_room"]


def test_every_key_of_the_json_and_every_kind_of_finding_is_documented(audited) -> None:
    from collegium.audit.finding import NOTES, Finding

    page = re.sub(r"```.*?```", "", (DOCS / "choosing-teachers.md").read_text(), flags=re.DOTALL)
    words = set(re.findall(r"[\w-]+", " ".join(re.findall(r"`([^`]+)`", page))))
    found = audited("--student small:cnn --quiet --json").json
    assert keys(found) <= words
    kinds = Finding.__annotations__["kind"].__args__
    assert set(kinds) <= words
    assert set(re.findall(r"`([\w-]+)` \(note\)", page)) == set(NOTES)


def test_a_store_that_is_filled_by_an_audit_can_be_trained_with(audited, command, teachers) -> None:
    assert audited("--store answers --quiet --probe 0").code == 0
    start = "distill --data digits --student small:cnn --store answers --epochs 1 --quiet"
    result = command(f"{start} --teacher wide={teachers['wide']} --out run kd")
    assert result.code == 0, result.err
    assert command("store info answers").code == 0


def test_what_an_audit_computed_no_run_computes_again(audited, distil, monkeypatch) -> None:
    for split in ("validation", "test"):
        assert audited(f"--store answers --split {split} --quiet --probe 0").code == 0
    assert distil("--out live kd").code == 0
    assert distil("--store answers --out first kd").code == 0

    def refuse(*arguments: object) -> None:
        pytest.fail("a teacher computed what is stored")

    monkeypatch.setattr(StoreWriter, "_ask", refuse)
    monkeypatch.setattr("collegium.store.whole_splits.collect", refuse)
    assert distil("--store answers --out second kd").code == 0
    live, second = Record("live"), Record("second")
    assert live.teachers == second.teachers
    predicted = (record.read_arrays("predictions.npz")["teachers"] for record in (live, second))
    assert np.array_equal(*predicted)


def test_an_audit_is_not_overwritten_unasked(audited) -> None:
    assert audited("--quiet --probe 0 --out audit").code == 0
    result = audited("--quiet --probe 0 --out audit")
    assert result.code == 2
    assert "holds an audit already" in result.err
    assert audited("--quiet --probe 0 --out audit --overwrite").code == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--data digits", "needs --teacher NAME=MODEL"),
        ("--data digits --teacher a=small:cnn", "teacher a: small:cnn has no weights"),
        ("--data digits --teacher a=small:cnn@x.safetensors", "teacher a: weights file x"),
        ("--data digit --teacher a=small:cnn@x", "did you mean 'digits'"),
        ("--data digits --validation 0 --teacher a=small:cnn@x", "has no validation split here"),
        ("--data digits --teacher a=small:cnn@x --probe -1", "--probe of at least 0"),
        ("--data digits --teacher a=small:cnn@x --split tset", "--split: invalid choice: 'tset'"),
    ],
)
def test_audits_that_make_no_sense_are_refused(command, words: str, complaint: str) -> None:
    result = command(f"audit {words}")
    assert result.code == 2
    assert complaint in result.err
    assert "\n" not in result.err.strip()
