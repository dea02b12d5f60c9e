"""What the documentation tells people to type is typed here, and what it lists is there."""

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
import torch

from collegium.cli.main import VERBS, read
from collegium.models.zoo.cifar import CIFAR_MODELS
from collegium.models.zoo.small import SMALL_MODELS
from collegium.records.run_folder import PARTS, Record
from collegium.utils.lock import LOCK
from tests.cli_and_docs.pages import (
    DOCS,
    PAGES,
    ROOT,
    RUN,
    TYPED,
    blocks,
    in_copy,
    lines,
    run_page,
    shortened,
)
from tests.making import write_folder

BY_TESTS_OF_THEIR_OWN = {"README.md", "CONTRIBUTING.md", "extending.md"}
"""Pages whose blocks are done by tests that know what they are."""
READER = [
    "quickstart.md",
    "concepts.md",
    "recipes.md",
    "bring-your-own-loop.md",
    "label-maps.md",
    "hidden-layers.md",
    "choosing-teachers.md",
    "store.md",
    "compare.md",
    "reading-the-report.md",
    "reliability.md",
]
"""Pages as they follow each other in the site, but those that want data or libraries."""
MEASURED = {"results.md", "performance.md"}
"""Pages whose commands take hours; what came out stands beside them."""


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
    assert done.said or done.names


@pytest.mark.slow
def test_the_recipes_run_from_top_to_bottom(command, quickstart) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    write_folder(Path("pets"))
    done = run_page("recipes.md", command)
    assert len(done.said) >= 15
    heard = Record("runs/by-hand").summary
    assert heard["weights.wide"] == pytest.approx(0.7)
    assert Record("runs/by-entropy").summary["store_hits"] == 1


@pytest.mark.slow
def test_a_reader_may_do_all_pages_in_one_folder(command, leaves_no_module) -> None:
    """No page takes another's names or stands in its way: each is done as it is written."""
    pytest.importorskip("transformers", reason="needs the extra hf")
    write_folder(Path("pets"))
    for page in READER:
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
def test_an_example_of_a_loop_teaches_its_student(
    example: str, library: str, tmp_path: Path
) -> None:
    """As a user runs it: in a process of its own; the student is asked at the end."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    text = (DOCS / "examples" / f"{example}.py").read_text()
    assert len(text.splitlines()) < 40
    shown = {block.title: block.text for block in blocks(DOCS / "bring-your-own-loop.md")}
    assert shown[f"{example}.py"] == text
    asked = """
images, labels = map(torch.tensor, load_digits(return_X_y=True))
right = student(images.float().view(-1, 1, 8, 8) / 16).argmax(dim=1) == labels
print(right.float().mean().item())
"""
    (tmp_path / "example.py").write_text(text + asked)
    done = in_copy(ROOT, "python", "example.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) > 0.8


def test_every_example_is_run() -> None:
    (mark,) = test_an_example_of_a_loop_teaches_its_student.pytestmark
    run = {getattr(case, "values", case)[0] for case in mark.args[1]}
    assert run == {path.stem for path in (DOCS / "examples").glob("*.py")}


def test_the_quickstart_runs_from_top_to_bottom(command, leaves_no_module) -> None:
    assert len(run_page("quickstart.md", command).said) >= 9
    assert "wide" in json.loads(Path("runs/student/run.json").read_text())["teachers"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    """Whoever writes a block has a test that does what it says."""
    silent = [block for block in blocks(page, *RUN) if not block.reason]
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    if silent and page.name not in BY_TESTS_OF_THEIR_OWN:
        assert f'"{page.name}"' in tests, f"no test runs {page.name}"
    if page.name not in MEASURED:
        shown = [block for block in blocks(page, "text") if not block.reason]
        typed = [line for block in shown for line in TYPED.findall(block.text)]
        assert not typed, f"{page.name} shows {typed} as text: run it, or say why not"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_not_run_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language != "text" and not block.reason:
            continue
        for line in lines(block.text):
            if not line.startswith("collegium "):
                continue
            verb, *words = shlex.split(line)[1:]
            assert verb in VERBS, line
            if "sure" not in words:  # the method of docs/extending.md is not installed
                assert read(verb, words) is not None, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_is_broken_and_no_block_left_open(page: Path) -> None:
    text = page.read_text()
    assert text.count("\n```") % 2 == 0
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_blocks_of_the_readme_run(command, teachers: dict[str, Path]) -> None:
    Path("runs/demo/teachers").mkdir(parents=True)
    Path("runs/demo/teachers/wide").symlink_to(teachers["wide"])
    for block in blocks(ROOT / "README.md", "bash"):
        for line in () if block.reason else lines(shortened(block.text)):
            assert command(line.removeprefix("collegium ")).code == 0, line
    assert Record("runs/another").summary["store_hits"] == 1
    distil, own_loop = (block.text for block in blocks(ROOT / "README.md", "python"))
    torch.manual_seed(0)

    def network() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3600, 2)
        )

    names: dict[str, Any] = {"net": network(), "net_a": network(), "net_b": network()}
    names |= {"images": torch.rand(200, 3, 32, 32), "labels": torch.arange(200) % 2, "torch": torch}
    exec(shortened(distil), names)
    exec(own_loop, names)
    assert set(names["taught"].terms) == {"ce", "kd", "angle", "hint.a", "hint.b"}
    assert all(parameter.grad is not None for parameter in names["net"].parameters())


def test_the_map_names_every_file_and_folder() -> None:
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
        for block in blocks(page, "python"):
            ast.parse(block.text)
