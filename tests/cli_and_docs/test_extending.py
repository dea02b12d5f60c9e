"""A new method is a new file: it is found, and held to the laws whatever it is made of."""

import shutil
from pathlib import Path

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


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, teachers: dict[str, Path]) -> Path:
    """A copy of the checkout in which the example of docs/extending.md is added."""
    copy = tmp_path_factory.mktemp("extended")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for folder in ("collegium", "docs", "recipes", "scripts", "tests/laws"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/conftest.py", copy / "tests")
    for block in blocks(DOCS / "extending.md", "python"):
        title, _, rest = block.text.partition("\n")
        path = copy / title.removeprefix("# ").split(",")[0]
        path.write_text(path.read_text() + "\n\n" + rest if path.exists() else rest)
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
    (block,) = blocks(DOCS / "extending.md", "bash")
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
