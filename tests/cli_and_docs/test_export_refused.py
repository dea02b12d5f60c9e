"""What is no student, and what makes no sense of one, is refused before anything is exported."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from collegium.records.run_folder import Record


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("nowhere --format pt2", "nowhere is no run folder: it has no run.json"),
        ("run --format pt2 --int8", "--int8 is for --format onnx, not pt2"),
        ("run --format safetensors --normalise inside", "use --format onnx or pt2"),
        ("run --format tflite", "choose from"),
        ("run --format onnx --images 0", "--images and --threads must be at least 1"),
        ("run --format onnx --allowed-drop 2", "--allowed-drop is a fraction"),
        ("run --format pt2 --out full", "full holds other files and no export"),
        ("run --format pt2 --out full --overwrite", "full holds other files and no export"),
        ("run --format pt2 --out full/file", "full/file is a file"),
        (
            "run --format pt2 --weights best",
            "kept no checkpoint with the weights of its best",
        ),
        ("run --format pt2 --data digits?x=1", "--data: digits takes no options"),
        ("run --format pt2 --data mnist:nowhere", "--data: "),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    command, teachers: dict[str, Path], words: str, says: str
) -> None:
    shutil.copytree(teachers["wide"], "run")
    shutil.rmtree("run/checkpoint")
    record = Record("run")
    record.write_json("summary.json", record.summary | {"best_epoch": 0})
    record.path("manifest.json").unlink()  # which would tell
    Path("full").mkdir()
    Path("full/file").write_text("mine")
    result = command(f"export {words} --quiet")
    assert result.code == 2
    assert says in result.err
    assert result.err.count("\n") == 1
    assert Path("full/file").read_text() == "mine"
    assert not Path("run/export").exists()


def test_a_run_without_an_end_has_no_student(command, teachers: dict[str, Path]) -> None:
    shutil.copytree(teachers["wide"], "run")
    Path("run/summary.json").unlink()
    Path("run/student.safetensors").unlink()
    for words in ("export run --format pt2", "predict run picture.png"):
        Path("picture.png").touch()
        result = command(words)
        assert result.code == 2
        assert "run was stopped before its end; go on with: collegium resume run" in result.err


def test_a_run_that_goes_on_has_no_student(command, teachers: dict[str, Path]) -> None:
    shutil.copytree(teachers["wide"], "run")
    script = "import fcntl, sys; file = open('run/.lock', 'r+'); fcntl.lockf(file, fcntl.LOCK_EX);"
    script += "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        result = command("export run --format pt2")
        assert holder.stdin is not None
        holder.stdin.close()
    assert result.code == 2
    assert "its run is still going and has no finished student; wait for its end" in result.err
