"""What the documentation tells people to type is typed here, and what it lists is there."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import collegium as cg
from collegium.cli import VERBS, read
from collegium.models.cifar import CIFAR_MODELS
from collegium.models.small import SMALL_MODELS
from collegium.record import PARTS, Record
from collegium.training.lock import LOCK

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page in these languages: language and text."""
    found = [(match[1], match[2]) for match in BLOCK.finditer(page.read_text())]
    return [block for block in found if block[0] in languages]


def commands(text: str) -> list[str]:
    """The command lines of a block that begin with `collegium`."""
    lines = text.replace("\\\n", " ").splitlines()
    return [" ".join(line.split(" #")[0].split()) for line in lines if line[:10] == "collegium "]


def shortened(text: str) -> str:
    """The same with one or two epochs: the words are the page's own."""
    return re.sub(r"(--epochs |\bepochs ?= ?)(\d+)", lambda m: m[1] + str(min(int(m[2]), 2)), text)


def from_root(path: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def leaves_no_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Lets pages import the files they write, and forgets them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("nets", None)


@pytest.mark.parametrize(
    "page",
    ["store.md", "compare.md", "choosing-teachers.md", "reliability.md", "reading-the-report.md"],
)
def test_the_commands_of_a_page_run(page: str, command, teachers: dict[str, Path]) -> None:
    Path("runs").mkdir()
    for name, folder in teachers.items():
        Path("runs", name).symlink_to(folder)
    lines = [line for _, text in blocks(DOCS / page, "sh") for line in commands(shortened(text))]
    assert lines
    for line in lines:
        # Several processes have a test of their own.
        words = (
            line.removeprefix("collegium ")
            .replace("--devices 2", "")
            .replace("--seeds 3", "--seeds 2 --jobs 1")
        )
        told = command(words)
        assert told.code == 0, (line, told.err)


def test_the_quickstart_runs_from_top_to_bottom(command, leaves_no_module) -> None:
    typed = 0
    for language, text in blocks(DOCS / "quickstart.md", "bash", "python"):
        if language == "bash":
            for line in commands(shortened(text)):
                told = command(line.removeprefix("collegium "))
                assert told.code == 0, (line, told.err)
                typed += 1
        elif name := re.match(r"# (\w+\.py)\n", text):
            Path(name[1]).write_text(text)
        else:
            exec(compile(shortened(text), "quickstart.md", "exec"), {})
    assert typed >= 9
    assert "wide" in json.loads(Path("runs/student/run.json").read_text())["teachers"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_can_be_read(page: Path) -> None:
    for _, text in blocks(page, "text", "bash"):
        for line in commands(text):
            verb, *words = line.split()[1:]
            assert verb in VERBS, line
            if "sure" not in words:  # the method of docs/extending.md is not installed
                assert read(verb, words) is not None, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_is_broken_and_no_block_left_open(page: Path) -> None:
    text = page.read_text()
    assert text.count("\n```") % 2 == 0
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_snippets_of_the_readme_run(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (_, first), (_, second) = blocks(ROOT / "README.md", "python")
    torch.manual_seed(0)

    def network() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2)
        )

    names: dict[str, Any] = {"net": network(), "net_a": network(), "net_b": network()}
    names |= {"images": torch.rand(200, 8, 8).numpy(), "labels": torch.arange(200).numpy() % 2}
    exec(shortened(first), names)
    outputs = {
        "cg": cg,
        "logits": torch.randn(4, 10),
        "layer3": torch.randn(4, 64, 8, 8),
        "teacher_logits": torch.randn(4, 2, 10),
        "labels": torch.arange(4),
    }
    exec(second, outputs)
    assert torch.isfinite(outputs["loss"])
    assert set(outputs["terms"]) == {"ce", "kd", "angle"}


def test_the_readme_names_every_file_and_every_room() -> None:
    text = (ROOT / "README.md").read_text().partition("## Where things are")[2]
    files = [path.relative_to(ROOT).parts for path in from_root("scripts/tidy.py").files()]
    names = {parts[0] for parts in files} | {p[1] for p in files if p[0] == "collegium"}
    assert {"collegium", "Makefile", "losses", "cli.py"} <= names
    for name in names - {"README.md"}:
        assert re.search(rf"[`/]{re.escape(name)}[`/]", text), name


def test_the_quickstart_names_every_model() -> None:
    text = (DOCS / "quickstart.md").read_text()
    named = set(re.findall(r"`([\w-]+)`", text))
    assert set(SMALL_MODELS) <= named
    assert {re.sub(r"^(resnet\d+)b$", r"\1", name) for name in CIFAR_MODELS} <= named


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, without the documentation's rest, in which its example is added."""
    copy = tmp_path_factory.mktemp("extended")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for folder in ("collegium", "tests/laws"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/conftest.py", copy / "tests")
    for _, text in blocks(DOCS / "extending.md", "python"):
        title, _, rest = text.partition("\n")
        path = copy / title.removeprefix("# ").split(",")[0]
        path.write_text(path.read_text() + "\n\n" + rest if path.exists() else rest)
    return copy


def in_copy(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python in that folder, with the package that lies there."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_example_of_a_new_method_is_found_and_its_doctest_holds(extended: Path) -> None:
    card = in_copy(extended, "-m", "collegium.cli", "methods", "sure")
    assert card.returncode == 0, card.stderr
    assert "doubt = 0.1" in card.stdout
    done = in_copy(extended, "-m", "pytest", "-q", "collegium/methods/sure.py")
    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_the_example_of_a_new_method_obeys_the_laws_and_trains(
    extended: Path, teachers: dict[str, Path]
) -> None:
    laws = in_copy(extended, "-m", "pytest", "-q", "tests/laws", "-k", "sure")
    assert laws.returncode == 0, laws.stdout
    assert " passed" in laws.stdout
    named = [f"--teacher={name}={folder}" for name, folder in teachers.items()]
    options = ["--data", "digits", "--student", "small:cnn", "--epochs", "1", "--out", "run"]
    start = ["-m", "collegium.cli", "distill", *options, *named]
    told = in_copy(extended, *start, "sure", "--doubt", "0.2")
    assert told.returncode == 0, told.stderr
    assert {"loss.doubt", "weights.wide"} <= Record(extended / "run").metrics("train")[0].keys()


@pytest.mark.slow
def test_the_example_of_a_new_method_is_in_the_style_of_the_house(extended: Path) -> None:
    added = [
        "collegium/methods/sure.py",
        "collegium/weighting/sureness.py",
        "collegium/terms/doubt.py",
    ]
    for words in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        done = in_copy(extended, "-m", *words, *added)
        assert done.returncode == 0, done.stdout


def test_every_file_and_key_of_a_run_is_documented(distil) -> None:
    page = (DOCS / "run-folder.md").read_text()
    documented = set(re.findall(r"[\w.]+", " ".join(re.findall(r"`([^`]+)`", page))))
    assert distil("--out run amtml").code == 0
    record = Record("run")
    written = {path.name for path in Path("run").iterdir()}
    assert {*PARTS, "checkpoint", LOCK} == written
    found = {*written, *record.run, *record.summary, *record.teachers[0]}
    found |= {key for line in record.metrics() for key in line}
    found |= {key for part in PARTS if part.endswith(".npz") for key in record.read_arrays(part)}
    for part in ("optimisation", "machine", "storage", "environment"):
        found |= set(record.run[part])
    names = {"loss": "TERM", "gradient_share": "TERM"}
    for key in found:
        start, dot, _ = key.partition(".")
        general = f"{start}.{names.get(start, 'TEACHER')}" if dot and key not in written else key
        assert general in documented, key


def test_the_page_of_papers_is_current() -> None:
    script = from_root("scripts/papers.py")
    assert script.page() == (DOCS / "papers.md").read_text()


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("path = '/", "home/someone/data'", "a path of a machine"),
        ("index = 'https://pypi", ".org/simple'", "a registry host"),
        ("-----BEGIN RSA PRIVATE", " KEY-----", "a private key"),
        ("token = 'ghp_", "a" * 36 + "'", "a token"),
    ],
)
def test_what_must_not_be_committed_is_found(
    tmp_path: Path, start: str, end: str, says: str
) -> None:
    script = from_root("scripts/tidy.py")
    (tmp_path / "file.py").write_text(start + end)
    (complaint,) = script.complaints(tmp_path / "file.py")
    assert says in complaint
    (tmp_path / "file.py").write_text(f"{start} {end}")
    assert script.complaints(tmp_path / "file.py") == []


def test_every_python_block_is_python() -> None:
    for page in PAGES:
        for _, text in blocks(page, "python"):
            ast.parse(text)
