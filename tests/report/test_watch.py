"""A page that follows a training: it reloads itself while that goes on, and not afterwards."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collegium.cli.main import main
from collegium.records.run_folder import RUN, SUMMARY, Record
from collegium.report.page import page
from collegium.report.watch import watch
from collegium.utils.lock import is_taken, only_writer

Folder = Callable[..., Record]
RELOADS = 'http-equiv="refresh"'
HOLD = """
import sys, time
from pathlib import Path
from collegium.utils.lock import only_writer

with only_writer(Path(sys.argv[1])):
    print("begun", flush=True)
    time.sleep(600)  # is killed before
"""
LOOKS = """
import sys, time
from pathlib import Path
from collegium.utils.lock import is_taken

print("begun", flush=True)
while True:
    is_taken(Path(sys.argv[1]))
    time.sleep(0.001)
"""


def going(record: Record) -> bytes:
    """Takes a run's answer away; gives it, to be put back."""
    answer = record.path(SUMMARY).read_bytes()
    record.path(SUMMARY).unlink()
    return answer


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is written as often as there is something new, whatever it costs."""
    monkeypatch.setattr("collegium.report.watch.SPARE", 0)


@contextlib.contextmanager
def process(code: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that does something with a folder, which it has begun; killed at the end."""
    words = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "begun\n"
        yield other
        other.kill()


def test_only_a_page_that_is_watched_reloads_itself(folder: Folder) -> None:
    record = folder()
    assert RELOADS not in page([record])[0]
    text = page([record], reload=5)[0]
    assert '<meta http-equiv="refresh" content="5">' in text
    assert "reloads itself every 5 seconds" in text


def test_the_page_follows_the_run_and_ends_with_it(folder: Folder) -> None:
    record = folder(epochs=2)
    answer, path, seen = going(record), record.path("page.html"), []

    def train() -> None:
        with only_writer(record.folder):
            begun.set()
            wait_for(path.is_file)
            seen.append(path.read_text())
            record.append_metrics({"epoch": 2, "split": "train", "accuracy": 0.9, "loss": 0.1})
            wait_for(lambda: "after 3 of 2" in path.read_text())
            seen.append(path.read_text())
            record.path(SUMMARY).write_bytes(answer)

    begun, training = threading.Event(), threading.Thread(target=train)
    training.start()
    begun.wait()
    found = watch([record.folder], lambda: [("", record)], path, look=0.02)
    training.join()
    assert [run.folder for _, run in found] == [record.folder]
    assert all(RELOADS in text and "is still going" in text for text in seen)
    assert len(seen) == 2
    assert RELOADS not in path.read_text()
    assert "reaches 50.00 % on the test split" in path.read_text()


def test_it_ends_when_the_process_is_gone(folder: Folder) -> None:
    record = folder()
    going(record)
    with process(HOLD, record.folder) as training:
        assert is_taken(record.folder)
        threading.Timer(0.3, training.kill).start()
        assert main(["report", "--watch", str(record.folder)]) == 0
    text = record.path("report.html").read_text()
    assert "was stopped" in text
    assert RELOADS not in text


def test_of_a_run_that_nobody_writes_one_page_is_made(folder: Folder, capsys) -> None:
    record = folder()
    assert main(["report", "--watch", "--json", str(record.folder)]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["runs"] == [str(record.folder)]
    assert "watching; open file://" in printed.err
    assert RELOADS not in record.path("report.html").read_text()


def test_runs_that_come_to_a_comparison_come_to_its_page(folder: Folder, tmp_path: Path) -> None:
    place, path = tmp_path / "c", tmp_path / "c/report.html"
    ended: list[int] = []
    with only_writer(place):
        words = ["report", "--watch", str(place)]
        watching = threading.Thread(target=lambda: ended.append(main(words)))
        watching.start()
        time.sleep(0.3)  # there is no run yet: it waits
        assert not path.exists()
        assert watching.is_alive()
        folder("c/runs/kd/seed-0")
        wait_for(path.is_file)
        folder("c/runs/vanilla/seed-0", method="vanilla", teachers=())
        wait_for(lambda: "(student alone)" in path.read_text())
        assert RELOADS in path.read_text()
    watching.join(120)
    assert ended == [0]
    assert RELOADS not in path.read_text()


@pytest.fixture
def hears_control_c() -> Iterator[None]:
    """What a shell starts by `&` ignores Ctrl-C, and so would the processes of these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_control_c")
def test_control_c_ends_the_watching_and_not_the_run(folder: Folder) -> None:
    record = folder()
    going(record)
    path = record.path("report.html")
    words = [sys.executable, "-m", "collegium.cli.main", "report", "--watch", str(record.folder)]
    with process(HOLD, record.folder) as training:
        done = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: path.is_file() and RELOADS in path.read_text())
        os.kill(done.pid, signal.SIGINT)
        out, printed = done.communicate(timeout=120)
        assert training.poll() is None
    assert (done.returncode, out) == (130, "")
    assert "Traceback" not in printed
    assert "no longer watching; the page stays" in printed.splitlines()[-1]
    assert RELOADS not in path.read_text()
    assert not list(record.folder.glob(".report*"))


def test_a_look_does_not_keep_a_writer_out(tmp_path: Path) -> None:
    """Whoever looks has the lock for a moment; a training that starts then must not be refused."""
    (tmp_path / ".lock").touch()
    with process(LOOKS, tmp_path):
        for _ in range(10):
            with only_writer(tmp_path):
                pass


def test_two_comparisons_do_not_write_one_folder(tmp_path: Path, capsys) -> None:
    words = ["compare", "--data", "digits", "--student", "small:mlp", "--methods", "vanilla"]
    words += ["--epochs", "1", "--seeds", "1", "--jobs", "1", "--quiet", "--out", str(tmp_path)]
    with only_writer(tmp_path):
        assert main(words) == 2
    assert "is being written by another process" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_real_training_is_followed_to_its_end(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = f"train --data digits --model small:cnn --epochs 150 --quiet --out {out}"
    training = subprocess.Popen([sys.executable, "-m", "collegium.cli.main", *words.split()])
    wait_for((out / RUN).is_file)
    pages: list[str] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            if (path := out / "report.html").is_file():
                pages.append(path.read_text())

    looking = threading.Thread(target=look)
    looking.start()
    result = subprocess.run(
        [sys.executable, "-m", "collegium.cli.main", "report", "--watch", "--json", str(out)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert training.wait(60) == 0
    stop.set()
    looking.join()
    assert result.returncode == 0
    assert json.loads(result.stdout)["runs"] == [str(out)]
    assert any(RELOADS in text and "is still going" in text for text in pages)
    assert all(text.rstrip().endswith("</html>") for text in pages)
    assert RELOADS not in (out / "report.html").read_text()
    assert Record(out).summary
