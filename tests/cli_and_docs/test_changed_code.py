"""A model file that is edited after training: every command notices, and none goes on silently."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import collegium as cg
from collegium.cli.main import main
from collegium.config.options import Optimisation
from collegium.config.same_run import run_id
from collegium.data import Splits, as_image_data
from collegium.errors import RequestError
from collegium.records.run_folder import Record
from collegium.utils.files import file_digest

ACT = "from torch import nn\n\nAct = nn.ReLU\n"
NET = (
    "from torch import nn\nfrom act import Act\n\ndef build(classes):\n"
    "    print('this is no answer')\n"
    "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), Act(), nn.Linear(40, classes))\n"
)
TRAIN = "train --data digits --model net.py:build --lr 0.2 --quiet"
WARNED = "its code is not what its weights were trained with: act.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model file, its neighbour and two runs of three epochs."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        Path("act.py").write_text(ACT)
        Path("net.py").write_text(NET)
        assert main(f"{TRAIN} --epochs 3 --out r".split()) == 0
        assert main(f"{TRAIN} --epochs 3 --seed 1 --out other".split()) == 0
    return folder


@pytest.fixture
def trained(command: Any, made: Path) -> Any:
    """The command, in a copy of that folder."""
    shutil.copytree(made, ".", dirs_exist_ok=True)
    return command


def test_what_a_file_prints_is_no_answer(trained: Any) -> None:
    result = trained("evaluate --data digits --model r --json")
    assert result.json["images"] == 210
    assert "this is no answer" in result.err


def edit(what: str = "Sigmoid") -> None:
    Path("act.py").write_text(ACT.replace("ReLU", what))


def test_the_source_is_in_the_record_and_with_the_weights(trained: Any) -> None:
    code = Record("r").run["code"]
    assert list(code) == ["student"]
    assert list(code["student"]) == ["act.py", "net.py"]
    # Comments do not count; another place does not, either.
    Path("act.py").write_text("# a comment\n" + ACT)
    Path("elsewhere").mkdir()
    for name in ("net.py", "act.py"):
        shutil.copy(name, f"elsewhere/{name}")
    for model in ("r", "elsewhere/net.py:build@r/student.safetensors"):
        result = trained(f"evaluate --data digits --model {model}")
        assert (result.code, "warning" in result.err) == (0, False), result.err


def test_evaluate_export_predict_and_a_student_of_it_warn(trained: Any) -> None:
    edit()
    result = trained("evaluate --data digits --model r")
    assert (result.code, result.err.count(WARNED)) == (0, 1)
    result = trained("export r --format safetensors")
    assert (result.code, result.err.count(WARNED)) == (0, 1)
    assert "it is not what was trained" in result.err
    found = json.loads(Path("r/export/safetensors/export.json").read_text())
    assert found["accuracy_recorded"] == Record("r").summary["accuracy_last"]
    assert found["accuracy"] < found["accuracy_recorded"]
    assert "its run recorded" in Path("r/export/safetensors/README.md").read_text()
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint8)).save("p.png")
    result = trained("predict r p.png")
    assert (result.code, result.err.count(WARNED)) == (0, 1)
    result = trained(
        "distill --data digits --student small:mlp --teacher t=r --epochs 1 --quiet --out d avg_mkd"
    )
    assert (result.code, result.err.count(WARNED)) == (0, 1)
    assert Record("d").teachers[0]["code"] == Record("d").run["code"]["teachers"]["t"]


def test_an_export_of_what_was_trained_says_nothing(trained: Any) -> None:
    result = trained("export r --format safetensors --quiet")
    assert (result.code, result.err.replace("this is no answer\n", "")) == (0, "")


def test_resume_refuses_changed_code_unless_requested(
    trained: Any, monkeypatch: Any, capfd: Any
) -> None:
    edit()
    result = trained("resume r --epochs 4 --quiet")
    assert result.code == 2
    assert "was started with other code of the student (act.py)" in result.err
    assert "--changed-code" in result.err
    assert not Record("r").run.get("changes")
    assert trained("resume r --epochs 4 --changed-code --quiet").code == 0
    run = Record("r").run
    assert run["changes"][0]["code"] == ["the student (act.py)"]
    assert run["optimisation"]["epochs"] == 4
    # From then on this is its code.
    result = trained("evaluate --data digits --model r")
    assert (result.code, "warning" in result.err) == (0, False)


def test_resume_of_a_finished_run_tells_of_an_edited_answer(trained: Any) -> None:
    summary = Path("r/summary.json")
    result = trained("resume r --quiet")
    assert (result.code, result.err) == (0, "")
    summary.write_text(summary.read_text().replace('"accuracy_last": 0.', '"accuracy_last": 0.0'))
    result = trained("resume r --quiet")
    assert (result.code, "r/summary.json is not what this run wrote" in result.err) == (0, True)


def test_another_network_is_refused_and_the_finished_run_stays(command: Any) -> None:
    """What code reads is not hashed: here how wide the network is."""
    Path("width.txt").write_text("16")
    Path("net.py").write_text(
        "from pathlib import Path\nfrom torch import nn\n\ndef build(classes):\n"
        "    width = int(Path(__file__).with_name('width.txt').read_text())\n"
        "    layers = nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes)\n"
        "    return nn.Sequential(nn.Flatten(), *layers)\n"
    )
    assert command(f"{TRAIN} --epochs 1 --out r").code == 0
    before = {path: path.read_bytes() for path in Path("r").rglob("*") if path.is_file()}
    Path("width.txt").write_text("24")
    result = command("resume r --epochs 2 --quiet")
    assert (result.code, len(result.err.splitlines())) == (2, 1), result.err
    assert "does not fit the network: 3 tensors differ, such as student.body.1.bias" in result.err
    assert {p: p.read_bytes() for p in Path("r").rglob("*") if p.is_file()} == before
    Path("width.txt").write_text("16")
    assert command("resume r --epochs 2 --quiet").code == 0


def test_a_run_of_an_older_version_goes_on_and_is_reported(trained: Any) -> None:
    record = Record("r")
    record.write_json("run.json", {k: v for k, v in record.run.items() if k not in ("code", "id")})
    edit("Tanh")
    finished = sorted(path.name for path in Path("r").iterdir())
    result = trained("resume r --epochs 4 --quiet")
    assert (result.code, "is of another run" in result.err) == (2, True)
    assert sorted(path.name for path in Path("r").iterdir()) == finished
    (state,) = Path("r/checkpoint").glob("epoch-00003/state.json")
    content = json.loads(state.read_text())
    del content["run"]
    state.write_text(json.dumps(content))
    digests = json.loads(state.with_name("manifest.json").read_text())
    digests["state.json"] = file_digest(state)
    state.with_name("manifest.json").write_text(json.dumps(digests))
    result = trained("resume r --epochs 4 --quiet")
    assert result.code == 0, result.err
    assert "older version, which did not record the source code" in result.err


def test_a_store_is_of_the_code_too_and_compare_does_not_mix(trained: Any) -> None:
    words = (
        "distill --data digits --student small:mlp --teacher t=r --epochs 1 --views 1 --quiet "
        "--store answers --overwrite --out d avg_mkd"
    )
    assert trained(words).code == 0
    manifest = Path("answers/teachers/t/manifest.json")
    content = json.loads(manifest.read_text())
    assert len(content["code"]) == 64
    table = "compare --data digits --student net.py:build --methods vanilla --seeds 1 --epochs 1"
    assert trained(f"{table} --jobs 1 --quiet --out table").code == 0
    edit()
    result = trained(words)
    assert (result.code, "is for code" in result.err) == (2, True)
    result = trained(f"{table} --jobs 1 --quiet --out table")
    assert (result.code, "other code of the student (act.py)" in result.err) == (2, True)
    # A row that was given more epochs is not what a new run of as many would be.
    edit("ReLU")
    (row,) = Path("table/runs").glob("*/seed-0")
    assert trained(f"resume {row} --epochs 2 --quiet").code == 0
    result = trained(f"{table} --epochs 2 --jobs 1 --quiet --out table")
    assert (result.code, "was changed while it ran (epochs 1 became 2" in result.err) == (2, True)
    # A store of an older version says nothing of it: a sample of its answers is compared.
    edit("ReLU")
    del content["code"]
    manifest.write_text(json.dumps(content))
    assert trained(words).code == 0


def test_files_of_another_run_are_noticed(trained: Any) -> None:
    for part in ("student.safetensors", "metrics.jsonl", "predictions.npz"):
        shutil.copytree("r", "mixed")
        shutil.copy(f"other/{part}", f"mixed/{part}")
        result = trained("report mixed")
        assert (result.code, f"mixed/{part} is not what this run wrote" in result.err) == (0, True)
        assert f"mixed/{part} is not what this run wrote" in Path("mixed/report.html").read_text()
        shutil.rmtree("mixed")
    shutil.copytree("r", "mixed")
    shutil.copy("other/student.safetensors", "mixed")
    for words in ("evaluate --data digits --model mixed", "export mixed --format safetensors"):
        result = trained(words)
        assert (result.code, "is not what this run wrote" in result.err) == (0, True)
    shutil.copy("other/run.json", "mixed")
    assert "is of another run than the files beside it" in trained("report mixed").err
    assert "warning" not in trained("report r").err


class Net(nn.Module):
    """A network given from Python."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.line(x.flatten(1))


def test_a_network_from_python_is_known_by_its_classes(tmp_path: Path, monkeypatch: Any) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (60, 8, 8), dtype=np.uint8)
    data = images, np.arange(60) % 10
    splits = Splits(as_image_data(data), None, None)
    run = cg.Run(splits, Net(), optimisation=Optimisation(epochs=1, batch_size=30))
    record = cg.execute(run, tmp_path / "r", quiet=True)
    for words in ({"epochs": 2}, {"changed_code": True}):  # of a run that goes on, and no other
        with pytest.raises(RequestError, match="give resume=True too"):
            cg.execute(run, tmp_path / "new", quiet=True, **words)
    (name,) = record.run["code"]["student"]
    assert name.endswith(".Net")
    spoiled = {"student": {name: "0" * 64}}
    content = record.run | {"code": spoiled}
    record.write_json("run.json", content | {"id": run_id(content)})
    with pytest.raises(RequestError, match=r"other code of the student \(.*Net\)"):
        cg.execute(run, tmp_path / "r", resume=True, epochs=2, quiet=True)
