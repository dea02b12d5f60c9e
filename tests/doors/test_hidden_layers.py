"""The page on hidden layers is typed from top to bottom, and `collegium layers` lists them."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hidden-layers.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


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
def test_the_page_runs_from_top_to_bottom(command, monkeypatch: pytest.MonkeyPatch) -> None:
    text = re.sub(r"--epochs \d+", "--epochs 1", PAGE.read_text())
    said = {}
    for language, block in BLOCK.findall(text):
        if language == "python":
            Path("nets.py").write_text(block)
        elif language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                said[line] = command(line.removeprefix("collegium "))
                assert said[line].code == 0, (line, said[line].err)
    shown = BLOCK.findall(text)
    layers, table = [block for language, block in shown if language == "text"][:2]
    told = list(said.values())
    assert layers in {one.out for one in told}
    assert any(table.strip() in one.err for one in told)
