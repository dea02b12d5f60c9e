"""The page on hidden layers is typed from top to bottom, and `collegium layers` lists them."""

import re
from pathlib import Path

import pytest

from tests.cli_and_docs.pages import DOCS, blocks, run_page


def test_layers_lists_what_hints_choose_from_and_all_there_is(command) -> None:
    usual = command("layers --data digits --model small:cnn")
    assert usual.out.split() == [
        word
        for row in (("layer1", "4x8x8"), ("layer2", "8x4x4"), ("layer3", "16x2x2"))
        for word in (*row, "hints")
    ]
    every = command("layers --data digits --model small:cnn --all --json").json
    assert every["layer1.2"] == [4, 8, 8]
    assert every.keys() > command("layers --data digits --model small:cnn --json").json.keys()
    assert "did you mean 'cnn'" in command("layers --data digits --model small:cnm").err


def test_the_pairs_are_shown_before_training(command, teachers: dict[str, Path]) -> None:
    start = f"distill --data digits --student small:cnn --teacher w={teachers['wide']} --epochs 1"
    shown = command(f"{start} --out shown fitnets").err
    row = re.search(r"^w +layer2 +32x4x4 +layer2 +8x4x4$", shown, flags=re.MULTILINE)
    assert row is not None
    assert "hints of" in shown[: row.start()]
    assert "epoch 1/1" in shown[row.end() :]
    assert "hints of" not in command(f"{start} --out none kd").err


@pytest.mark.slow
def test_the_page_runs_and_says_what_it_shows(
    command, quickstart, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_page("features.md", command, lambda text: re.sub(r"(--epochs) \d+", r"\1 1", text))
    layers, table = (block.text for block in blocks(DOCS / "features.md", "text")[:2])
    outputs = list(done.outputs.values())
    assert layers in {one.out for one in outputs}
    assert any(table.strip() in one.err for one in outputs)
