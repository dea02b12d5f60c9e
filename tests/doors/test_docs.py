"""What the documentation tells people to type is typed here."""

import re
from pathlib import Path

import pytest
import torch

import collegium as cg
from collegium.cli import VERBS, read
from collegium.methods import all_methods

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def commands(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip().startswith("collegium ")]


def test_the_quickstart_runs_from_top_to_bottom(command) -> None:
    page = ROOT / "docs" / "quickstart.md"
    (nets,) = [block for block in blocks(page, "python") if block.startswith("# nets.py")]
    Path("nets.py").write_text(nets)
    typed = [line for block in blocks(page, "bash") for line in commands(block)]
    assert len(typed) >= 9
    for line in typed:
        # The words are the page's own; only the number of epochs is cut, to save time.
        words = re.sub(r"--epochs \d+", "--epochs 1", line.removeprefix("collegium "))
        told = command(words)
        assert told.code == 0, (line, told.err)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_can_be_read(page: Path) -> None:
    for text in blocks(page, "text") + blocks(page, "bash"):
        for line in commands(text):
            verb, *words = line.split(" #")[0].split()[1:]
            assert verb in VERBS, line
            if "sure" not in words:  # the example of docs/extending.md is not installed
                assert read(verb, words) is not None, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_within_the_documentation_is_broken(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_snippets_of_the_readme_run(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = blocks(ROOT / "README.md", "python")
    torch.manual_seed(0)

    def network() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2)
        )

    names = {"net": network(), "net_a": network(), "net_b": network()}
    names |= {"images": torch.rand(200, 8, 8).numpy(), "labels": torch.arange(200).numpy() % 2}
    exec(first.replace("epochs=30", "epochs=1"), names)
    features = torch.randn(4, 64, 8, 8)
    outputs = {
        "cg": cg,
        "student_outputs": cg.StudentOutputs(torch.randn(4, 10), {"layer3": features}),
        "teacher_outputs": cg.TeacherOutputs(torch.randn(4, 2, 10)),
        "labels": torch.arange(4),
    }
    exec(second, outputs)
    assert torch.isfinite(outputs["loss"])
    assert set(outputs["terms"]) == {"ce", "kd", "angle"}


def test_the_example_of_a_new_method_is_a_method(tmp_path: Path) -> None:
    (example,) = [
        block
        for block in blocks(ROOT / "docs" / "extending.md", "python")
        if block.startswith("# collegium/methods/sure.py")
    ]
    names: dict = {"__name__": "sure"}
    import sys
    import types

    sys.modules["sure"] = types.ModuleType("sure")
    exec(example, names)
    objective = names["Sure"]().build(cg.Dims(3, ("a", "b")))
    sure_and_unsure = torch.tensor([[[9.0, 0.0, 0.0], [0.1, 0.0, 0.0]]])
    student = cg.StudentOutputs(torch.zeros(1, 3))
    weights_BT = objective.weigh(student, cg.TeacherOutputs(sure_and_unsure), torch.zeros(1).long())
    assert weights_BT[0, 0] > weights_BT[0, 1]


def test_the_page_of_papers_is_current_and_complete() -> None:
    text = (ROOT / "docs" / "papers.md").read_text()
    for slug, kind in all_methods().items():
        assert f"## `{slug}`" in text
        assert kind.card() in text


@pytest.mark.data
def test_the_recipe_is_a_run(cifar_data: Path, cifar_weights: Path) -> None:
    from recipes.cifar10_amtml import cifar10_amtml

    run = cifar10_amtml(str(cifar_data), str(cifar_weights))
    assert run.to_json()["teachers"]["r56"].endswith("resnet56.safetensors")
