"""docs/bring-your-own-teacher.md, from top to bottom, and what it says is printed."""

import pytest

from collegium.records.run_folder import Record
from tests.cli_and_docs.pages import DOCS, blocks, run_page

pytest.importorskip("transformers", reason="needs the extra hf")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnx", reason="needs onnx, of the extra dev")


@pytest.mark.slow
def test_the_page_runs_and_says_what_it_shows(command) -> None:
    done = run_page("bring-your-own-teacher.md", command)
    (shown,) = blocks(DOCS / "bring-your-own-teacher.md", "text")
    (result,) = (
        output for line, output in done.outputs.items() if line.startswith("collegium distill")
    )
    for line in shown.text.splitlines():
        assert line in result.err
    rows = {row["name"]: row for row in Record("runs/four").teachers}
    assert list(rows) == ["mine", "file", "vit", "exported"]
    assert rows["vit"]["resizing"] == "32x32 bilinear"
    assert rows["exported"]["mean"] == [0.3]
