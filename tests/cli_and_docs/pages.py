"""Pages of the documentation, done as a reader would do them.

Every block of code on a page is run, in order, in one folder: `bash` and `sh` line by line,
`python` in one namespace, unless its first line names a file (`# nets.py`), to which it is written,
as is any block with a title. One that cannot be run says why, in a line readers do not see:

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
"""Languages whose blocks are done; `text` is what is shown."""
TYPED = re.compile(r"^(?:\$ )?(?:collegium|python|make|pip|scripts/\w+) ", flags=re.MULTILINE)

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
        text: what is in it.
        title: the file it is kept in, if it has one.
        reason: why it is not run, if it is not.
    """

    language: str
    text: str
    title: str
    reason: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, in these languages or in all."""
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
    """The commands of a block, each on one line, without remarks."""
    joined = text.replace("\\\n", " ").splitlines()
    return [line for line in (" ".join(line.split(" #")[0].split()) for line in joined) if line]


def shortened(text: str) -> str:
    """The same with one or two epochs and two seeds, in one process: the words are the page's."""
    text = re.sub(r"(--epochs |\bepochs ?= ?)(\d+)", lambda m: m[1] + str(min(int(m[2]), 2)), text)
    text = re.sub(r"--seeds \d+", "--seeds 2 --jobs 1", text)
    return re.sub(r" --devices \d+", "", text)


@dataclass(frozen=True)
class Done:
    """What came of a page.

    Attributes:
        said: what each command said, by its line.
        names: what the Python of the page has defined.
    """

    said: dict[str, Any]
    names: dict[str, Any]


def run_page(
    name: str, command: Callable[[list[str]], Any], shorten: Callable[[str], str] = shortened
) -> Done:
    """Do what a page says, from top to bottom, in the folder one is in.

    Args:
        name: of the page, in docs/.
        command: runs the words of `collegium`.
        shorten: what is typed in place of what stands there.
    """
    done = Done({}, {})
    for block in blocks(DOCS / name, *RUN):
        title = block.title or "".join(re.findall(r"\A# (\S+\.py)\n", block.text))
        if block.reason:
            continue
        if title:
            Path(title).write_text(block.text)
        elif block.language == "python":
            exec(compile(shorten(block.text), name, "exec"), done.names)
        else:
            assert block.language in ("bash", "sh"), f"{name}: no way to run {block.language}"
            done.said.update({line: _type(line, command, shorten) for line in lines(block.text)})
    return done


def _type(line: str, command: Callable[[list[str]], Any], shorten: Callable[[str], str]) -> Any:
    """One line of a shell: a command of collegium, or a file of Python."""
    program, *words = shlex.split(shorten(line))
    if program == "python":
        return runpy.run_path(words[0], run_name="__main__")
    assert program == "collegium", f"no way to run {line!r}: say why not in a line before its block"
    told = command(words)
    assert told.code == 0, (line, told.err)
    return told


def in_copy(folder: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command, with the package that lies in that folder and the Python of these tests."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PYTHONPATH": str(folder), "PATH": programs, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, cwd=cwd or folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
