"""The commands and code of the documentation run, and what it lists exists."""

import ast
import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from collegium.cli.main import VERBS, read
from collegium.models.zoo.cifar import CIFAR_MODELS
from collegium.models.zoo.small import SMALL_MODELS
from collegium.records.run_folder import PARTS, Record
from collegium.utils.lock import LOCK
from tests.cli_and_docs.pages import (
    COMMAND,
    DOCS,
    PAGES,
    ROOT,
    RUN,
    blocks,
    in_copy,
    lines,
    run_page,
    shortened,
)
from tests.making import write_folder

SPECIAL_PAGES = {"README.md", "CONTRIBUTING.md", "extending.md"}
"""Pages whose blocks have tests of their own."""
IN_ORDER = [
    "quickstart.md",
    "concepts.md",
    "recipes.md",
    "bring-your-own-loop.md",
    "label-maps.md",
    "features.md",
    "choosing-teachers.md",
    "store.md",
    "compare.md",
    "reading-the-report.md",
    "reliability.md",
]
"""Pages in the order of the site, except those that need data or other libraries."""
MEASURED = {"results.md", "performance.md"}
"""Pages whose commands take hours; their results are beside them."""


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
    """Lets pages import the files that they write, then removes these modules."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("nets", None)


@pytest.mark.parametrize(
    "page",
    [
        "bring-your-own-loop.md",
        "choosing-teachers.md",
        "compare.md",
        "concepts.md",
        "reading-the-report.md",
        "reliability.md",
        "store.md",
    ],
)
def test_a_page_runs_from_top_to_bottom(page: str, command, quickstart) -> None:
    done = run_page(page, command)
    assert done.outputs or done.names


@pytest.mark.slow
def test_the_recipes_run_from_top_to_bottom(command, quickstart) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    write_folder(Path("pets"))
    done = run_page("recipes.md", command)
    assert len(done.outputs) >= 15
    assert Record("runs/by-hand").summary["weights.wide"] == pytest.approx(0.7)
    assert Record("runs/by-entropy").summary["store_hits"] == 1


@pytest.mark.slow
def test_all_pages_run_in_one_folder(command, leaves_no_module, all_digits) -> None:
    """No page uses the folder of another in a way that makes either fail."""
    pytest.importorskip("transformers", reason="needs the extra hf")
    write_folder(Path("pets"))
    for page in IN_ORDER:
        run_page(page, command)
    assert len(list(Path("runs").iterdir())) > 30


@pytest.mark.parametrize(
    ("example", "library"),
    [
        ("plain_pytorch", "torch"),
        pytest.param("lightning_module", "lightning", marks=pytest.mark.slow),
        pytest.param("transformers_trainer", "accelerate", marks=pytest.mark.slow),
    ],
)
def test_an_example_of_a_loop_trains_its_student(
    example: str, library: str, tmp_path: Path
) -> None:
    """In a process of its own, as a user runs it; the student must be accurate at the end."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    text = (DOCS / "examples" / f"{example}.py").read_text()
    assert len(text.splitlines()) < 40
    shown = {block.title: block.text for block in blocks(DOCS / "bring-your-own-loop.md")}
    assert shown[f"{example}.py"] == text
    check = """
images, labels = map(torch.tensor, load_digits(return_X_y=True))
correct = student(images.float().view(-1, 1, 8, 8) / 16).argmax(dim=1) == labels
print(correct.float().mean().item())
"""
    (tmp_path / "example.py").write_text(text + check)
    done = in_copy(ROOT, "python", "example.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) > 0.8


def test_every_example_is_run() -> None:
    (mark,) = test_an_example_of_a_loop_trains_its_student.pytestmark
    run = {getattr(case, "values", case)[0] for case in mark.args[1]}
    assert run == {path.stem for path in (DOCS / "examples").glob("*.py")}


def test_the_quickstart_runs_from_top_to_bottom(command, leaves_no_module, all_digits) -> None:
    assert len(run_page("quickstart.md", command).outputs) >= 9
    assert "wide" in json.loads(Path("runs/student/run.json").read_text())["teachers"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    executable = [block for block in blocks(page, *RUN) if not block.reason]
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    if executable and page.name not in SPECIAL_PAGES:
        assert f'"{page.name}"' in tests, f"no test runs {page.name}"
    if page.name not in MEASURED:
        shown = [block for block in blocks(page, "text") if not block.reason]
        commands = [line for block in shown for line in COMMAND.findall(block.text)]
        assert not commands, f"{page.name} shows {commands} as text: run it, or say why not"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_not_run_is_valid(page: Path) -> None:
    for block in blocks(page):
        if block.language != "text" and not block.reason:
            continue
        for line in lines(block.text):
            if not line.startswith("collegium "):
                continue
            verb, *words = shlex.split(line)[1:]
            assert verb in VERBS, line
            # Methods and data of docs/extending.md, whose packages are not installed.
            if not {"sure", "mymethod", "mine:scans.npz"} & set(words):
                assert read(verb, words) is not None, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_is_broken_and_no_block_left_open(page: Path) -> None:
    text = page.read_text()
    assert text.count("\n```") % 2 == 0
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", prose):
        if target.startswith("http"):
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page as a link names them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_runs_from_top_to_bottom(command) -> None:
    code, *rest = blocks(ROOT / "README.md", "python")
    assert not rest
    assert len(code.text.splitlines()) <= 12
    names: dict[str, Any] = {}
    exec(code.text.replace('"epochs": 10', '"epochs": 2'), names)
    assert 0 < names["record"].summary["accuracy_last"] <= 1
    for block in blocks(ROOT / "README.md", "bash"):
        for line in () if block.reason else lines(shortened(block.text)):
            assert command(line.removeprefix("collegium ")).code == 0, line
    assert Record("runs/distilled").summary["weights.wide"] > 0


def test_the_readme_is_short_and_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    table = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    for verb in VERBS:
        assert f"`{verb}`" in table or f"`{verb.removeprefix('store ')}`" in table, verb


def test_the_list_of_files_is_complete() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where things are")[2]
    files = [path.relative_to(ROOT).parts for path in from_root("scripts/tidy.py").files()]
    names = {parts[0] for parts in files} | {p[1] for p in files if p[0] == "collegium"}
    assert {"collegium", "Makefile", "losses", "cli"} <= names
    for name in names:
        assert re.search(rf"[`/]{re.escape(name)}[`/]", text), name


def test_the_quickstart_names_every_model() -> None:
    text = (DOCS / "quickstart.md").read_text()
    named = set(re.findall(r"`([\w-]+)`", text))
    assert set(SMALL_MODELS) <= named
    assert {re.sub(r"^(resnet\d+)b$", r"\1", name) for name in CIFAR_MODELS} <= named


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
    found |= set(record.run["environment"])
    for group in ("optimisation", "machine", "storage"):
        for key in record.run[group]:
            assert f"{group}.{key}" in documented, key
    names = {"loss": "TERM", "gradient_share": "TERM"}
    for key in found:
        start, dot, _ = key.partition(".")
        general = f"{start}.{names.get(start, 'TEACHER')}" if dot and key not in written else key
        assert general in documented, key


def test_the_page_of_papers_is_current() -> None:
    script = from_root("scripts/papers.py")
    assert script.page() == (DOCS / "papers.md").read_text()


@pytest.mark.parametrize(
    ("start", "end", "complaint"),
    [
        ("path = '/", "home/someone/data'", "a path of a machine"),
        ("index = 'https://pypi", ".org/simple'", "a registry host"),
        ("-----BEGIN RSA PRIVATE", " KEY-----", "a private key"),
        ("token = 'ghp_", "a" * 36 + "'", "a token"),
    ],
)
def test_what_must_not_be_committed_is_found(
    tmp_path: Path, start: str, end: str, complaint: str
) -> None:
    script = from_root("scripts/tidy.py")
    (tmp_path / "file.py").write_text(start + end)
    (found,) = script.complaints(tmp_path / "file.py")
    assert complaint in found
    (tmp_path / "file.py").write_text(f"{start} {end}")
    assert script.complaints(tmp_path / "file.py") == []


def test_every_python_block_is_python() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            ast.parse(block.text)
