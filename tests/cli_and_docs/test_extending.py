"""A new part is a new file, or an entry point of another package: it is found and tested."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from collegium.records.run_folder import Record
from tests.cli_and_docs.pages import DOCS, ROOT, blocks, in_copy, lines, shortened

BRIER = '''
"""A method that shares nothing with the family of soft targets."""

from dataclasses import dataclass

from collegium.methods.base import AbstractMethod


@dataclass(frozen=True)
class Brier(AbstractMethod):
    """The square error of probabilities."""

    slug = "brier"

    alpha: float = 0.5
    """What the teachers get, the label gets the rest."""
    edge_weight: float = 0.2
    """Weight of the margin."""

    def build(self, dims):
        """Terms of its own."""
        import torch
        from torch.nn.functional import multi_margin_loss

        from collegium.objectives.objective import AbstractTerm, Objective
        from collegium.objectives import HardLabel
        from collegium.weighting import FixedWeighting

        class Soft(AbstractTerm):
            def forward(self, given):
                p_BC, q_BC = given.target(2.0), torch.softmax(given.student.logits_BC / 2, dim=1)
                known_B1 = (p_BC > 0).any(dim=1, keepdim=True)
                return self.scale * (p_BC - known_B1 * q_BC).square().sum(dim=1)

        class Margin(AbstractTerm):
            def forward(self, given):
                z_BC, labels_B = given.student.logits_BC, given.labels_B
                return self.scale * multi_margin_loss(z_BC, labels_B, reduction="none")

        soft, margin = Soft(), Margin()
        soft.scale, margin.scale = self.alpha, self.edge_weight
        terms = {"ce": HardLabel(1 - self.alpha), "kd": soft, "margin": margin}
        return Objective(terms, FixedWeighting([1.0] * len(dims.teachers)))
'''


def files_of_the_page(start: str) -> list[tuple[str, str]]:
    """The files of docs/extending.md whose path begins so, with their text."""
    parts = (block.text.partition("\n") for block in blocks(DOCS / "extending.md", "python"))
    files = [(title.removeprefix("# "), text) for title, _, text in parts]
    return [(path, text) for path, text in files if path.startswith(start)]


def install(folder: Path, name: str, points: dict[str, dict[str, str]]) -> None:
    """What pip leaves behind of a package with these entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = [
        "\n".join([f"[{group}]", *(f"{key} = {value}" for key, value in of.items())])
        for group, of in points.items()
    ]
    (info / "entry_points.txt").write_text("\n\n".join(groups) + "\n")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of docs/extending.md installed, and data for its reader."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "mypackage").mkdir()
    for path, text in files_of_the_page("mypackage/"):
        (folder / path).write_text(text)
    (block,) = blocks(DOCS / "extending.md", "toml")
    install(folder, "mypackage", tomllib.loads(block.text)["project"]["entry-points"])
    generator = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = generator.integers(0, 80, (120, 1, 8, 8)) + 80 * labels[:, None, None, None]
    np.savez(folder / "scans.npz", images=images.astype(np.uint8), labels=labels)
    return folder


def with_site(*folders: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A command of collegium, typed in the first folder, with the packages of all."""
    path = ":".join(map(str, (ROOT, *folders)))
    words = [sys.executable, "-m", "collegium.cli.main", *command.split()]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=folders[0], env=environment, capture_output=True, text=True)


def test_a_package_adds_a_method_a_weighting_a_loss_a_reader_and_a_family(site: Path) -> None:
    (block,) = (b for b in blocks(DOCS / "extending.md", "bash") if "pip install" in b.text)
    install_line, *commands = lines(block.text)
    assert install_line == "pip install ./mypackage"
    for command in commands:
        done = with_site(site, command=shortened(command).removeprefix("collegium "))
        assert done.returncode == 0, (command, done.stderr)
        assert "cannot be imported" not in done.stderr
    run = json.loads((site / "runs/student/run.json").read_text())
    assert (run["data"], run["student"]) == ("mine:scans.npz", "mine:net")
    assert {"loss.kd", "weights.a"} <= Record(site / "runs/student").metrics("train")[0].keys()
    card = json.loads(with_site(site, command="methods mymethod --json").stdout)
    assert (card["options"]["weighting"], card["options"]["loss"]) == ("margin", "brier")
    result = with_site(site, command="train --data mine --model mine:net --out runs/b")
    assert result.returncode == 2
    assert "mine needs a place: mine:FILE.npz" in result.stderr
    result = with_site(site, command="train --data mine:scans.npz --model mine:nat --out runs/b")
    assert "unknown mine model 'nat'; did you mean 'net'?" in result.stderr


@pytest.mark.slow
def test_the_laws_hold_for_the_method_of_a_package(site: Path) -> None:
    words = [sys.executable, "-m", "pytest", "-q", "tests/laws", "-k", "mymethod or margin"]
    path = f"{ROOT}:{site}"
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "no tests ran" not in done.stdout


def test_a_package_that_cannot_be_used_is_named_in_one_line_and_breaks_nothing_else(
    site: Path, tmp_path: Path
) -> None:
    method = "mypackage.method:MyMethod"
    install(
        tmp_path,
        "torn",
        {
            "collegium.methods": {
                "broken": "nowhere.at_all:Method",
                "function": "mypackage.parts:net",
                "kd": method,
                "other": method,
                "twice": method,
            },
            "collegium.readers": {"lost": "nowhere.at_all:Reader"},
        },
    )
    install(tmp_path, "again", {"collegium.methods": {"twice": method}})
    listed = with_site(site, tmp_path, command="methods")
    assert listed.returncode == 0
    assert "mymethod" in listed.stdout
    assert "\nkd " in listed.stdout
    expected = [
        "broken of package torn cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
        "function of package torn is refused: mypackage.parts:net is no subclass of collegium.",
        "kd of package torn is refused: collegium has one of that name",
        "other of package torn is refused: mypackage.method:MyMethod has slug = 'mymethod'",
        "twice is in several packages (again, torn): uninstall all but one",
    ]
    result = sorted(listed.stderr.splitlines())
    assert len(result) == len(expected), result
    for line, words in zip(result, expected, strict=True):
        assert line.startswith(f"warning: method {words}")
    refused = with_site(site, tmp_path, command="methods broken")
    assert refused.returncode == 2
    assert "method broken of package torn cannot be imported" in refused.stderr
    refused = with_site(site, tmp_path, command="train --data lost:x --model mine:net --out runs/c")
    assert refused.returncode == 2
    assert "data lost of package torn cannot be imported" in refused.stderr
    assert not (site / "runs/c").exists()


def test_help_reads_no_entry_points_and_imports_no_torch() -> None:
    code = """
import importlib.metadata, sys
importlib.metadata.entry_points = None
from collegium.cli.main import main
code = main(["--help"])
sys.exit(code or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, teachers: dict[str, Path]) -> Path:
    """A copy of the checkout in which the example of docs/extending.md is added."""
    copy = tmp_path_factory.mktemp("extended")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for folder in ("collegium", "docs", "recipes", "scripts", "tests/laws"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/conftest.py", copy / "tests")
    for path, text in files_of_the_page("collegium/"):
        (copy / path).write_text(text)
    (copy / "runs").mkdir()
    for name, folder in teachers.items():
        (copy / "runs" / name).symlink_to(folder)
    return copy


def test_the_example_of_a_new_method_is_found_and_its_doctest_holds(extended: Path) -> None:
    card = in_copy(extended, "collegium", "methods", "sure")
    assert card.returncode == 0, card.stderr
    assert "doubt = 0.1" in card.stdout
    done = in_copy(extended, "scripts/test", "-q", "collegium/methods/sure.py")
    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_extending_is_true_to_the_last_line(extended: Path) -> None:
    """What its last block says is typed: laws, card, a run, its section of papers, the style."""
    block, _ = blocks(DOCS / "extending.md", "bash")
    assert len(lines(block.text)) == 6
    for line in lines(block.text):
        done = in_copy(extended, "bash", "-c", shortened(line))
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert "no tests ran" not in done.stdout
    assert "## `sure`" in (extended / "docs/papers.md").read_text()
    (run,) = (path for path in (extended / "runs").iterdir() if "sure" in path.name)
    assert {"loss.doubt", "weights.wide"} <= Record(run).metrics("train")[0].keys()


@pytest.mark.slow
def test_a_method_outside_the_family_is_held_to_the_laws(extended: Path) -> None:
    path = extended / "collegium/methods/brier.py"
    try:
        path.write_text(BRIER)
        done = in_copy(extended, "scripts/test", "-q", "tests/laws", "-k", "brier")
        assert done.returncode == 0, done.stdout
        path.write_text(BRIER.replace("known_B1 * q_BC", "q_BC"))
        done = in_copy(extended, "scripts/test", "-q", "tests/laws", "-k", "brier")
        assert "test_where_nobody_knows_the_class_the_label_speaks_alone" in done.stdout
        assert "\n1 failed" in done.stdout
    finally:
        path.unlink()
