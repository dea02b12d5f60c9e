"""A student taken elsewhere: every format, read where collegium is not; what is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import collegium as cg
from collegium.cli.main import main
from collegium.data import load_data
from collegium.export import export as exporting
from collegium.export import formats
from collegium.export.card import card, code, text
from collegium.export.model import Model
from collegium.models.weights import read_weights
from collegium.records.run_folder import Record

PAGE = Path(__file__).resolve().parents[2] / "docs/export.md"
NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.last = nn.Linear(64, classes)


class Branch(Net):
    def forward(self, x):
        y = self.last(x.flatten(1))
        return 2 * y if y.sum() > 0 else y


class OneByOne(Net):
    def forward(self, x):
        return torch.stack([self.last(one.flatten()) for one in x])


class Eigen(Net):
    def forward(self, x):
        return self.last(x.flatten(1)) + torch.linalg.eigvalsh(x[:, 0] @ x[:, 0].mT).sum()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, teachers: dict[str, Path]) -> Path:
    """A student of two teachers: a run folder."""
    folder = tmp_path_factory.mktemp("student") / "run"
    named = " ".join(f"--teacher {name}={where}" for name, where in teachers.items())
    start = "distill --data digits --student small:cnn --epochs 10 --batch-size 64 --quiet"
    assert main(f"{start} {named} --out {folder} amtml".split()) == 0
    return folder


@pytest.fixture
def student(command, trained: Path) -> Path:
    """The same, this test's own."""
    return Path(shutil.copytree(trained, "run"))


def picture(place: int = 0) -> Path:
    """A test digit as a file."""
    digits = load_data("digits").test
    assert digits is not None
    path = Path(f"digit-{place}.png")
    Image.fromarray(np.asarray(digits.images_NDHW[place, 0])).save(path)
    return path


def loaded_by_its_card(folder: Path, image: Path, without: tuple[str, ...]) -> np.ndarray:
    """The probabilities that the lines on a model card give, in a process of its own."""
    shutil.copy(image, folder / "image.png")
    (lines,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    ending = (
        "import json, sys\n"
        f"assert not {set(without)!r} & set(sys.modules)\n"
        "rows = logits.tolist()\nprint(json.dumps(rows))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{lines}\n{ending}"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return torch.tensor(json.loads(done.stdout)).softmax(dim=1).numpy()[0]


def assert_same(folder: Path, image: Path, run: Path, without: tuple[str, ...] = ()) -> None:
    predicted = loaded_by_its_card(folder, image, without)
    (row,) = cg.predict(run, [image], top=100)
    expected = dict(zip(row["classes"], row["probabilities"], strict=True))
    assert predicted == pytest.approx([expected[str(place)] for place in range(10)], abs=1e-5)


def test_weights_are_the_student_again_for_whoever_reads_the_card(command, student: Path) -> None:
    result = command(f"export {student} --format safetensors --json")
    assert result.code == 0, result.err
    original, exported = result.json["rows"]
    assert exported["agreement"] == 1
    assert exported["max_difference"] == 0
    assert result.json["accuracy"] == Record(student).summary["accuracy_last"]
    assert exported["accuracy"] == original["accuracy"] == result.json["accuracy"]
    assert result.json["same_images"]
    assert len(result.json["sha256"]) == 64
    assert set(original["latency"]) == {"1", "64"}
    folder = student / "export/safetensors"
    assert json.loads((folder / "export.json").read_text()) == result.json
    assert_same(folder, picture(), student)
    file = folder / "model.safetensors"
    assert exported["bytes"] == file.stat().st_size
    again = command(f"evaluate --data digits --model small:cnn@{file} --json")
    assert again.json["accuracy"] == result.json["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("normalise", ["outside", "inside"])
def test_a_pt2_file_needs_torch_alone(command, student: Path, normalise: str) -> None:
    result = command(f"export {student} --format pt2 --normalise {normalise} --json")
    assert result.code == 0, result.err
    assert result.json["rows"][1]["max_difference"] < 1e-5
    assert_same(student / "export/pt2", picture(), student, without=("collegium",))
    extra = {formats.EXTRA: ""}
    program = torch.export.load(student / "export/pt2/model.pt2", extra_files=extra)
    assert program.module()(torch.rand(7, 1, 8, 8)).shape == (7, 10)
    assert json.loads(json.loads(extra[formats.EXTRA])["classes"]) == list("0123456789")


@pytest.mark.slow
@pytest.mark.parametrize("normalise", ["outside", "inside"])
def test_an_onnx_file_needs_onnxruntime_alone(command, student: Path, normalise: str) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    result = command(f"export {student} --format onnx --int8 --normalise {normalise} --json")
    assert result.code == 0, result.err
    _, exported, integers = result.json["rows"]
    assert exported["max_difference"] < 1e-4
    assert exported["agreement"] == 1
    assert integers["max_difference"] > 0
    assert integers["accuracy"] > result.json["accuracy"] - 0.02
    folder = student / "export/onnx"
    assert_same(folder, picture(), student, without=("collegium", "torch"))
    again = command(f"evaluate --data digits --model onnx:{folder / 'model.onnx'} --json")
    assert again.json["accuracy"] == result.json["accuracy"]
    again = command(f"evaluate --data digits --model onnx:{folder / 'model.int8.onnx'} --json")
    assert again.json["accuracy"] == integers["accuracy"]


@pytest.mark.slow
def test_integers_that_cost_too_much_are_refused(
    command, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    read = exporting.read_onnx

    def worse(*arguments: object) -> Model:
        model = read(*arguments)
        return Model(model.prepare, lambda inputs: model.answer(inputs).roll(1, dims=1))

    monkeypatch.setattr(exporting, "read_onnx", worse)
    result = command(f"export {student} --format onnx --int8")
    assert result.code == 1
    assert "model.int8.onnx was read again and differs from the student" in result.err
    assert "--allowed-drop 0.02, so nothing is kept" in result.err
    assert not list(student.glob("export/*"))
    assert command(f"export {student} --format onnx --int8 --allowed-drop 1").code == 0


def test_what_differs_is_refused_and_nothing_is_kept(
    command, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = formats.WRITERS["safetensors"]

    def other(subject, folder: Path) -> Model:
        model = writer.read(subject, folder)
        return Model(model.prepare, lambda inputs: model.answer(inputs) + 0.1)

    monkeypatch.setitem(
        formats.WRITERS, "safetensors", formats.Writer(writer.file, writer.write, other)
    )
    result = command(f"export {student} --format safetensors --quiet --out out")
    assert result.code == 1
    assert "100.00 % of the classes agree, logits differ by up to 0.1, more than" in result.err
    assert result.err.count("\n") == 1
    assert not [path for path in Path().iterdir() if "out" in path.name]


@pytest.mark.parametrize(
    ("net", "format_", "says"),
    [
        ("Branch", "pt2", "data-dependent expression Eq(u0, 1), at nets.py:15: return 2 * y if"),
        pytest.param("OneByOne", "pt2", "specialized it to be a constant (2); use --format safe",
                     marks=pytest.mark.slow),
        pytest.param("Eigen", "onnx", "at aten._linalg_eigh; use --format pt2, or --format safet",
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_what_cannot_be_traced_says_where_and_what_would_work(
    command, net: str, format_: str, says: str
) -> None:
    Path("nets.py").write_text(NETS)
    assert command(f"train --data digits --model nets.py:{net} --epochs 1 --out run").code == 0
    result = command(f"export run --format {format_} --quiet")
    assert result.code == 1
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert says in result.err
    assert not list(Path("run/export").iterdir())


@pytest.mark.slow
def test_a_users_file_is_needed_again_for_weights_alone(command) -> None:
    Path("nets.py").write_text(NETS)
    assert command("train --data digits --model nets.py:Branch --epochs 1 --out run").code == 0
    assert command("export run --format safetensors --quiet").code == 0
    shutil.copy("nets.py", "run/export/safetensors")
    assert_same(Path("run/export/safetensors"), picture(), Path("run"))


def test_a_student_whose_answers_are_no_numbers(command, student: Path) -> None:
    file = student / "student.safetensors"
    metadata = dict(read_weights(file).metadata)
    tensors = {name: value * torch.nan for name, value in load_file(file).items()}
    save_file(tensors, file, metadata)
    for words in (
        f"export {student} --format safetensors --quiet",
        f"predict {student} {picture()}",
    ):
        result = command(words)
        assert result.code == 2
        assert "is damaged: " in result.err
        assert "values are NaN" in result.err
    assert not list(student.glob("export/*"))


def test_an_export_is_replaced_on_request_and_files_of_others_stay(command, student: Path) -> None:
    assert command(f"export {student} --format safetensors --out out").code == 0
    Path("out/mine.txt").write_text("mine")
    Path("out/README.md").write_text("old")
    result = command(f"export {student} --format safetensors --out out")
    assert result.code == 2
    assert "holds an export already; choose another --out, or give --overwrite" in result.err
    assert Path("out/README.md").read_text() == "old"
    assert command(f"export {student} --format safetensors --out out --overwrite").code == 0
    assert "small:cnn" in Path("out/README.md").read_text()
    names = {"README.md", "export.json", "mine.txt", "model.safetensors"}
    assert {path.name for path in Path("out").iterdir()} == names
    assert [path.name for path in Path().glob(".*")] == []


def test_what_a_killed_export_left_is_swept_and_that_of_one_at_work_is_not(
    command, student: Path
) -> None:
    gone, at_work, other = (
        student / f"export/.safetensors.{number}.tmp"
        for number in (2**22 + 1, os.getppid(), "mine")
    )
    for folder in (gone, at_work, other):
        folder.mkdir(parents=True)
    assert command(f"export {student} --format safetensors --quiet").code == 0
    assert [folder.exists() for folder in (gone, at_work, other)] == [False, True, True]


def test_the_best_epochs_student_where_a_checkpoint_has_it(command, student: Path) -> None:
    """One that says 3 of everything."""
    record = Record(student)
    tensors = load_file(student / "student.safetensors")
    best = {f"best/{name}": torch.zeros_like(value) for name, value in tensors.items()}
    (last,) = (name for name, value in best.items() if value.shape == (10,))
    best[last][3] = 1
    newest = student / "checkpoint/epoch-00009"
    newest.mkdir()
    save_file(best, newest / "tensors")
    (newest / "state.json").write_text('{"progress": {"best_epoch": 1}}')
    share = float(np.mean(record.read_arrays("predictions.npz")["labels"] == 3))
    summary = record.summary | {"best_epoch": 1, "accuracy_at_best_validation": share}
    record.write_json("summary.json", summary)
    result = command(f"export {student} --format safetensors --weights best --json")
    assert result.code == 0, result.err
    assert result.json["accuracy"] == pytest.approx(share)
    assert result.json["out"] == "run/export/safetensors-best"
    assert "the best epoch on validation" in Path(result.json["out"], "README.md").read_text()
    row = command(f"predict {student} {picture()} --weights best --json").json["predictions"][0]
    assert row["classes"][0] == "3"


def test_the_best_epochs_student_where_it_was_the_last(command, student: Path) -> None:
    shutil.rmtree(student / "checkpoint")
    record = Record(student)
    last_epoch = record.run["optimisation"]["epochs"] - 1
    record.write_json("summary.json", record.summary | {"best_epoch": last_epoch})
    last, best = (cg.predict(student, [picture()], weights=which) for which in ("last", "best"))
    assert last == best


def test_data_that_moved_are_requested(command, student: Path) -> None:
    content = json.loads((student / "run.json").read_text())
    (student / "run.json").write_text(json.dumps(content | {"data": "mnist:gone"}))
    result = command(f"export {student} --format safetensors --quiet")
    assert result.code == 2
    assert "an export is compared on real images, so say where they are: --data DATA" in result.err
    result = command(f"export {student} --format safetensors --data digits --json")
    assert result.code == 0, result.err
    assert result.json["same_images"]


def test_other_images_than_the_runs_are_called_so(command, student: Path) -> None:
    content = json.loads((student / "run.json").read_text())
    content["identity"] = {}
    (student / "run.json").write_text(json.dumps(content))
    result = command(f"export {student} --format safetensors")
    assert "digits (not the images the run was measured on)" in result.out
    assert "not the images" in Path(student, "export/safetensors/README.md").read_text()


def test_the_card_has_the_teachers_and_the_citation(command, student: Path) -> None:
    assert command(f"export {student} --format safetensors --images 50").code == 0
    page = (student / "export/safetensors/README.md").read_text()
    summary = Record(student).summary
    for name in ("wide", "residual"):
        assert f"| {name} | " in page
        assert f" {100 * summary[f'weights.{name}']:.2f} % |" in page
        assert f" {100 * summary[f'accuracy.{name}']:.2f} % |" in page
    assert "10.1016/j.neucom.2020.07.048" in page
    assert "`collegium export run --format safetensors --images 50`" in page
    assert "50 images of the test split" in page
    for title in ("Load it", "Input", "Output", "How it was made", "Teachers", "Limits"):
        assert f"\n## {title}\n" in page


def test_names_on_the_card_are_nothing_but_names() -> None:
    assert text("<script>a|b</script>\n# *x*") == r"\<script\>a\|b\</script\> \# \*x\*"
    assert code("a|b\n`c`") == r"`` a\|b `c` ``"
    assert card.__doc__


@pytest.mark.slow
def test_a_student_from_python_is_exported_from_python(tmp_path, monkeypatch) -> None:
    from collegium.build import splits_from

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net, teacher = (
        torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 2))
        for _ in range(2)
    )
    arrays = (torch.rand(200, 8, 8).numpy(), np.arange(200) % 2)
    words = {"teachers": {"a": teacher}, "method": cg.AvgMKD(), "epochs": 1, "quiet": True}
    cg.distill(student=net, train=arrays, out="run", **words)
    with pytest.raises(cg.CollegiumError, match="give it again from Python"):
        cg.export_student("run", "pt2")
    with pytest.raises(cg.CollegiumError, match="data were given from Python"):
        cg.export_student("run", "pt2", student=net)
    splits = splits_from(arrays, None, None, 0.1, 0)
    # The file's weights count, not those the module has by now.
    with torch.no_grad():
        net[2].bias.add_(5)
    for name in ("safetensors", "pt2"):
        found = cg.export_student("run", name, student=net, data=splits)
        assert found["accuracy"] == Record("run").summary["accuracy_last"]
        assert found["rows"][1]["max_difference"] < 1e-5


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(command, teachers: dict[str, Path]) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    Path("runs").mkdir()
    Path("runs/wide").symlink_to(teachers["wide"])
    for language, block in re.findall(r"```(bash|python)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if language == "python":
            exec(compile(block, "export.md", "exec"), {})
            continue
        for line in block.strip().splitlines():
            result = command(line.removeprefix("collegium "))
            assert result.code == 0, (line, result.err)
    assert result.out.count("digit-") == 3
    assert Path("again/README.md").is_file()
