"""docs/bring-your-own-teacher.md, from top to bottom, and what it says is printed."""

import re
from pathlib import Path

import pytest

from collegium.record import Record

pytest.importorskip("transformers", reason="needs the extra hf")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnx", reason="needs onnx, of the extra dev")

PAGE = Path(__file__).resolve().parents[2] / "docs/bring-your-own-teacher.md"


@pytest.mark.slow
def test_the_page_runs_and_says_what_it_shows(command) -> None:
    page = PAGE.read_text()
    script, typed, shown = (
        re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)[1]
        for language in ("python", "bash", "text")
    )
    exec(compile(script, "make_models.py", "exec"), {})
    first, distil = typed.replace("\\\n", " ").strip().splitlines()
    assert first == "python make_models.py"
    words = distil.removeprefix("collegium ").replace("--epochs 5", "--epochs 1")
    told = command(words)
    assert told.code == 0, told.err
    for line in shown.splitlines():
        assert line in told.err
    rows = {row["name"]: row for row in Record("runs/mine").teachers}
    assert list(rows) == ["mine", "file", "vit", "exported"]
    assert rows["vit"]["resizing"] == "32x32 bilinear"
    assert rows["exported"]["mean"] == [0.3]
