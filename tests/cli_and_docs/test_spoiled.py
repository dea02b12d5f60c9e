"""Each value of each file of a finished run, spoiled in each way: no command ends in a traceback.

A command that reads it gives its answer (what is wrong is reported, or is none of its business) or
a refusal of one line. The runs take some of the cases, drawn by their names: the fast one few, the
slow one more, and with COLLEGIUM_SPOILED=all all of the nearly 20,000, which takes hours.
"""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from collegium.cli.main import main

FEW, MORE = 24, 240
"""Cases of the fast run and of the slow one."""
SCRIPT = "<script>alert(1)</script>"
VALUES: dict[str, Any] = {
    "null": None,
    "list": [1],
    "object": {"a": 1},
    "text": SCRIPT,
    "number": 7.5,
    "truth": True,
    "huge": 10**40,
    "nan": float("nan"),
    "surrogate": "\ud800",
    "nul": "a\0b",
}
RUN_FILES = ("run.json", "teachers.json", "summary.json", "manifest.json")
ARRAYS = ("weights.npz", "predictions.npz", "examples.npz")
TEACH = "distill --data digits --student small:mlp --epochs 1 --quiet --overwrite --out taught"
STORE = "distill --data digits --epochs 1 --quiet --overwrite --student small:mlp --teacher t=t"
STORES = {
    "info": "store info bad-store",
    "verify": "store verify bad-store --sample 0 --quiet",
    "use": f"{STORE} --views 1 --store bad-store --out taught avg_mkd",
}
TABLE = "compare --data digits --student small:mlp --methods vanilla --seeds 1 --epochs 1 --jobs 1"
TABLES = {
    "table": "report bad-table --out page.html",
    "compare": f"{TABLE} --quiet --out bad-table",
}
VERBS = {
    "report": "report bad --out page.html",
    "resume": "resume bad --quiet",
    "extend": "resume bad --epochs 2 --quiet",
    "evaluate": "evaluate --data digits --model bad",
    "export": "export bad --format safetensors --overwrite --quiet --images 8",
    "predict": "predict bad picture.png",
    "teach": f"{TEACH} --teacher t=bad avg_mkd",
    "reports": "report bad sound --out page.html",
    **STORES,
    **TABLES,
}
OF_RUNS = [verb for verb in VERBS if verb not in {**STORES, **TABLES}]
ROW = "bad-table/runs/vanilla/seed-0/"


@dataclass(frozen=True)
class Case:
    """What is spoiled, how, and who reads it."""

    file: str
    where: tuple[Any, ...]
    how: str
    verb: str

    def __str__(self) -> str:
        place = ".".join(map(str, self.where))
        return f"{self.file}-{place}-{self.how}-{self.verb}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a finished run, a comparison and a picture."""
    folder, before = tmp_path_factory.mktemp("spoiled"), Path.cwd()
    os.chdir(folder)
    start = "--data digits --epochs 1 --quiet"
    assert main(f"train {start} --model small:mlp --out t".split()) == 0
    words = f"distill {start} --student small:mlp --teacher t=t --teacher u=t --out sound avg_mkd"
    assert main(words.split()) == 0
    stored = f"{STORE} --views 1 --store sound-store --out taught avg_mkd"
    assert main(stored.split()) == 0
    assert main(f"{TABLE} --quiet --out sound-table".split()) == 0
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("picture.png")
    yield folder
    os.chdir(before)


def paths(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value, whole parts too; of long lists the first two."""
    yield at
    if isinstance(content, dict):
        for key, value in content.items():
            yield from paths(value, (*at, key))
    elif isinstance(content, list):
        for number, value in enumerate(content[:2]):
            yield from paths(value, (*at, number))


def put(content: Any, where: tuple[Any, ...], how: str) -> str:
    """The JSON text with one value spoiled."""
    if not where:
        if how in ("missing", "key", "twice"):
            return "[1" if how == "missing" else f'{{"{SCRIPT}": 1, "a": 1, "a": 2}}'
        return json.dumps(VALUES[how])
    whole = json.loads(json.dumps(content))
    inner = whole
    for key in where[:-1]:
        inner = inner[key]
    if how == "missing":
        del inner[where[-1]]
    elif how == "key" and isinstance(inner, dict):
        inner[SCRIPT] = inner[where[-1]]
    elif how == "twice":
        inner[where[-1]] = "TWICE"
        key = f'"{where[-1]}": ' if isinstance(inner, dict) else ""
        return json.dumps(whole).replace(f'{key}"TWICE"', f"{key}1, {key}2")
    else:
        inner[where[-1]] = VALUES.get(how, 0)
    return json.dumps(whole)


def spoil_json(text: str, case: Case) -> bytes:
    return put(json.loads(text), case.where, case.how).encode("utf-8", "surrogatepass")


def spoil_lines(text: str, case: Case) -> bytes:
    lines = text.splitlines()
    lines[0] = put(json.loads(lines[0]), case.where, case.how)
    return ("\n".join(lines) + "\n").encode()


SHAPES: dict[str, Callable[[Any], Any]] = {
    "shorter": lambda array: array[:-1],
    "flat": lambda array: array.reshape(-1),
    "deep": lambda array: array[None],
    "none": lambda array: array[:0],
    "texts": lambda array: np.full(array.shape, SCRIPT),
    "floats": lambda array: np.full(array.shape, np.nan),
    "large": lambda array: np.full(array.shape, 1 << 50),
    "negative": lambda array: np.full(array.shape, -7),
    "complex": lambda array: np.full(array.shape, 1j),
    "times": lambda array: np.full(array.shape, np.datetime64("2020-01-01")),
    "missing": lambda array: None,
}


def spoil_arrays(content: bytes, case: Case) -> bytes:
    with np.load(io.BytesIO(content)) as file:
        arrays = {key: file[key] for key in file.files}
    changed = SHAPES[case.how](arrays.pop(case.where[0]))
    made = io.BytesIO()
    np.savez(made, **arrays, **({} if changed is None else {case.where[0]: changed}))
    return made.getvalue()


WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda content: content[: len(content) // 2],
    "nothing": lambda content: b"",
    "latin": lambda content: "\xe9\xff".encode("latin-1") + content,
    "deep": lambda content: b"[" * 100_000,
    "other": lambda content: b"PK\x03\x04" + content,
}


def cases(folder: Path) -> Iterator[Case]:
    """All there are."""
    for file in RUN_FILES:
        for where in paths(json.loads((folder / "sound" / file).read_text())):
            for how in (*VALUES, "missing", "key", "twice"):
                yield from (Case(file, where, how, verb) for verb in OF_RUNS)
    others = {
        "bad-store/manifest.json": STORES,
        "bad-store/teachers/t/manifest.json": STORES,
        "bad-store/uses.jsonl": {"info": ""},
        "bad-table/compare.json": TABLES,
        f"{ROW}run.json": TABLES,
        f"{ROW}summary.json": TABLES,
    }
    for file, verbs in others.items():
        content = json.loads((folder / file.replace("bad-", "sound-")).read_text())
        for where in paths(content):
            for how in (*VALUES, "missing", "key", "twice"):
                yield from (Case(file, where, how, verb) for verb in verbs)
    line = json.loads((folder / "sound/metrics.jsonl").read_text().splitlines()[0])
    for where in paths(line):
        for how in (*VALUES, "missing", "key", "twice"):
            for verb in ("report", "reports", "resume", "extend"):
                yield Case("metrics.jsonl", where, how, verb)
    for file in ARRAYS:
        with zipfile.ZipFile(folder / "sound" / file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
        for name in names:
            for how in SHAPES:
                for verb in ("report", "reports", "export", "predict"):
                    yield Case(file, (name,), how, verb)
    for file in (*RUN_FILES, "metrics.jsonl", *ARRAYS, "student.safetensors"):
        for how in WHOLE:
            yield from (Case(file, (), f"whole {how}", verb) for verb in OF_RUNS)


def spoiled(content: bytes, case: Case) -> bytes:
    if case.how.startswith("whole "):
        return WHOLE[case.how.removeprefix("whole ")](content)
    if case.file in ARRAYS:
        return spoil_arrays(content, case)
    make = spoil_lines if case.file == "metrics.jsonl" else spoil_json
    return make(content.decode(), case)


def problem(case: Case, capfd: pytest.CaptureFixture[str]) -> str | None:
    """What was not as it should be."""
    for name in ("", "-store", "-table"):
        shutil.rmtree(f"bad{name}", ignore_errors=True)
    whole = case.file.partition("/")[0] if "/" in case.file else "bad"
    shutil.copytree(whole.replace("bad", "sound"), whole)
    Path("page.html").unlink(missing_ok=True)
    victim = Path(case.file if "/" in case.file else f"bad/{case.file}")
    victim.write_bytes(spoiled(victim.read_bytes(), case))
    capfd.readouterr()
    try:
        code = main(VERBS[case.verb].split())
    except BaseException as error:
        return f"{case}: {type(error).__name__}: {error}"
    result = capfd.readouterr()
    last = result.err.strip().splitlines()[-1:]
    if code not in (0, 1, 2) or "Traceback" in result.err:
        return f"{case}: exit code {code}: {result.err[-300:]}"
    if code == 1 and case.verb == "verify":  # its answer: not intact
        return None
    if code and not (last and last[0].startswith("collegium ")):
        return f"{case}: refused in other words: {result.err[-300:]}"
    if Path("page.html").is_file() and SCRIPT in Path("page.html").read_text():
        return f"{case}: a text became part of the page"
    return None


def drawn(folder: Path, count: int) -> list[Case]:
    """Some of all cases, the same in every run of the tests; each verb and file among them."""
    return sorted(cases(folder), key=lambda case: crc32(str(case).encode()))[:count]


def test_spoiled_files_end_in_an_answer_or_a_refusal(place: Path, capfd: Any) -> None:
    found = [result for case in drawn(place, FEW) if (result := problem(case, capfd))]
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_more_spoiled_files_end_in_an_answer_or_a_refusal(place: Path, capfd: Any) -> None:
    every = os.environ.get("COLLEGIUM_SPOILED") == "all"
    chosen = list(cases(place)) if every else drawn(place, FEW + MORE)[FEW:]
    found = [result for case in chosen if (result := problem(case, capfd))]
    assert not found, "\n".join(found)
