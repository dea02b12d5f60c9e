"""Runs the pages of the documentation.

Every block of code on a page is run, in order, in one folder: `bash` and `sh` line by line,
`python` in one namespace, unless its first line names a file (`# nets.py`), to which it is written,
as is any block with a title. A hidden line before a block says why it cannot be run:

    <!-- not run: it takes days -->
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
RUN = ("bash", "sh", "python", "console", "pycon", "json")
"""Languages whose blocks are run; `text` shows output."""
COMMAND = re.compile(r"^(?:\$ )?(?:collegium|python|make|pip|scripts/\w+) ", flags=re.MULTILINE)

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n+)?"
    r'```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: after the fence.
        text: its content.
        title: the file that it is written to, or "".
        reason: why it is not run, or "".
    """

    language: str
    text: str
    title: str
    reason: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page in these languages, or in all."""
    found = [
        Block(
            one["language"],
            one["text"],
            one["title"] or "",
            one["reason"] or "",
        )
        for one in _BLOCK.finditer(page.read_text())
    ]
    return [block for block in found if not languages or block.language in languages]


def lines(text: str) -> list[str]:
    """The commands of a block, each on one line, without comments."""
    joined = text.replace("\\\n", " ").splitlines()
    return [line for line in (" ".join(line.split(" #")[0].split()) for line in joined) if line]


def shortened(text: str) -> str:
    """The same with at most two epochs and two seeds, in one process."""
    text = re.sub(r"(--epochs |\bepochs ?= ?)(\d+)", lambda m: m[1] + str(min(int(m[2]), 2)), text)
    text = re.sub(r"--seeds \d+", "--seeds 2 --jobs 1", text)
    return re.sub(r" --devices \d+", "", text)


@dataclass(frozen=True)
class PageRun:
    """Results of a page.

    Attributes:
        outputs: output of each command, by its line.
        names: what the Python blocks define.
    """

    outputs: dict[str, Any]
    names: dict[str, Any]


def run_page(
    name: str, command: Callable[[list[str]], Any], shorten: Callable[[str], str] = shortened
) -> PageRun:
    """Run the blocks of a page from top to bottom in the current folder.

    Args:
        name: file name in docs/.
        command: runs `collegium` with these arguments.
        shorten: changes a block before it is run.
    """
    done = PageRun({}, {})
    for block in blocks(DOCS / name, *RUN):
        title = block.title or "".join(re.findall(r"\A# (\S+\.py)\n", block.text))
        if block.reason:
            continue
        if title:
            Path(title).write_text(block.text)
        elif block.language == "python":
            exec(compile(shorten(block.text), name, "exec"), done.names)
        else:
            assert block.language in ("bash", "sh"), f"{name}: cannot run {block.language}"
            done.outputs.update(
                {line: _run_line(line, command, shorten) for line in lines(block.text)}
            )
    return done


def _run_line(line: str, command: Callable[[list[str]], Any], shorten: Callable[[str], str]) -> Any:
    """Run one line of a shell: a command of collegium, or a Python file."""
    program, *words = shlex.split(shorten(line))
    if program == "python":
        return runpy.run_path(words[0], run_name="__main__")
    assert program == "collegium", f"cannot run {line!r}: add a line `not run` before its block"
    output = command(words)
    assert output.code == 0, (line, output.err)
    return output


def in_copy(folder: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command with the package of that folder and the Python of these tests."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PYTHONPATH": str(folder), "PATH": programs, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, cwd=cwd or folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
