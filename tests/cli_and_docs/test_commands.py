"""Every command, as a newcomer would type it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import collegium.demo
import collegium.runner.setup
from collegium.cli.main import VERBS
from collegium.config.options import Optimisation
from collegium.config.run import Run
from collegium.errors import RequestError
from collegium.methods import all_methods
from collegium.records.run_folder import PARTS, Record
from collegium.training import precision

SETTINGS = [
    *all_methods(),
    *(
        pytest.param(f"{slug} --preset {name}", marks=pytest.mark.slow)
        for slug, kind in all_methods().items()
        for name in kind.presets
    ),
]
"""The words of every method, and of every preset for the slow tests."""


@pytest.mark.parametrize("method", SETTINGS)
def test_every_method_and_preset_distils(distil, method: str) -> None:
    result = distil(f"--json --out run {method}")
    assert result.code == 0, result.err
    assert result.json["folder"] == "run"
    first, last = (line["loss"] for line in Record("run").metrics("train"))
    assert last < first


def test_a_run_folder_holds_what_is_promised(distil) -> None:
    assert distil("--out run amtml").code == 0
    record = Record("run")
    assert all(record.path(part).exists() for part in PARTS)
    weights, predictions = record.weights, record.read_arrays("predictions.npz")
    assert weights["teachers"].tolist() == ["wide", "residual"]
    assert weights["weights"].shape == (len(weights["index"]), 2)
    assert np.allclose(weights["weights"].sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(weights["index"])) == len(weights["index"])
    assert predictions["teachers"].shape == (2, len(predictions["labels"]))
    assert {"index", "labels", "student", "teachers"} <= predictions.keys()
    examples = record.read_arrays("examples.npz")
    assert examples["images"].dtype == np.uint8
    assert examples["weights"].shape == (len(examples["index"]), 2)
    assert [row["name"] for row in record.teachers] == ["wide", "residual"]
    assert all(row["accuracy"] > 0.1 and len(row["sha256"]) == 64 for row in record.teachers)


def test_metrics_and_summary_have_the_promised_keys(distil) -> None:
    distil("--out run amtml")
    record = Record("run")
    (first, last), (test,) = record.metrics("train"), record.metrics("test")
    assert len(record.metrics("validation")) == 2
    promised = "epoch step split accuracy loss loss.kd loss.ce loss.angle loss.hint.wide"
    promised += " weights.wide weights.residual weights_entropy weights_variance"
    promised += " gradient_share.kd gradient_share.hint.residual lr images_per_s seconds"
    assert set(promised.split()) <= last.keys()
    shares = [value for key, value in last.items() if key.startswith("gradient_share.")]
    assert sum(shares) == pytest.approx(1)
    assert last["weights.wide"] + last["weights.residual"] == pytest.approx(1)
    parts = [value for key, value in last.items() if key.startswith("loss.")]
    assert sum(parts) == pytest.approx(last["loss"])
    assert last["loss"] < first["loss"]
    keys = "accuracy_last accuracy_at_best_validation best_epoch ece agreement.wide weights.wide"
    keys += " parameters seconds teacher_seconds images_per_s store_hits"
    assert set(keys.split()) <= record.summary.keys()
    assert test["accuracy"] == record.summary["accuracy_last"]


def test_run_json_is_read_back_strictly(distil) -> None:
    distil("--out run --seed 3 amtml --temperature 2 --hint-pairs layer1=wide:layer2")
    content = Record("run").run
    run = Run.from_json(content)
    assert (run.seed, run.method.temperature) == (3, 2.0)
    assert run.to_json() | content == content
    with pytest.raises(RequestError, match="colour"):
        Run.from_json(content | {"colour": 1})
    for part in ("options", "optimisation", "machine"):
        with pytest.raises(RequestError, match="is a JSON object"):
            Run.from_json(content | {part: [1]})
    with pytest.raises(RequestError, match="heat"):
        Run.from_json(content | {"options": {"heat": 1}})


def test_options_may_follow_the_method(distil) -> None:
    result = distil("kd --teacher wide --json --out run --alpha 1")
    assert result.code == 0, result.err
    assert result.json["weights.wide"] == 1  # after kd, --teacher names the one it hears
    assert distil("amtml --json --alpha 1 --out other").code == 0


def test_class_weights_and_label_smoothing_change_what_is_learned_and_are_recorded(
    command,
) -> None:
    train = "train --data digits --model small:cnn --epochs 1 --batch-size 32 --classes 3,8"
    assert command(f"{train} --out plain --quiet").code == 0
    Path("w.csv").write_text("class,weight\n3,3\n8,1\n")
    result = command(f"{train} --out weighed --class-weights w.csv --label-smoothing 0.2 --json")
    assert result.code == 0, result.err
    assert "class weights from 0.49" in result.err
    plain, weighed = Record("plain"), Record("weighed")
    assert (weighed.run["class_weights"], weighed.run["label_smoothing"]) == ({"3": 3, "8": 1}, 0.2)
    assert weighed.metrics("train")[0]["loss.ce"] != plain.metrics("train")[0]["loss.ce"]
    report = Path("weighed/report.html").read_text()
    assert "label_smoothing" in report
    assert "label_smoothing" not in Path("plain/report.html").read_text()
    result = command(
        "train --data digits --model small:cnn --epochs 1 --class-weights w.csv --out x"
    )
    assert result.code == 2
    assert "no weight for class 0, 1, 2" in result.err
    assert not Path("x").exists()


def test_train_evaluate_and_a_run_folder_as_a_model(command, teachers: dict[str, Path]) -> None:
    folder = teachers["wide"]
    result = command(f"evaluate --data digits --model {folder} --json")
    assert result.json["accuracy"] == pytest.approx(Record(folder).summary["accuracy_last"])
    file = folder / "student.safetensors"
    again = command(f"evaluate --data digits --model small:cnn-wide@{file} --json")
    assert again.json["accuracy"] == result.json["accuracy"]
    assert command(f"evaluate --data digits --model {folder} --split validation").code == 0
    assert command(f"train --data digits --model {folder} --epochs 1 --quiet").code == 0
    assert Path("runs/train/summary.json").exists()
    assert command(f"train --data digits --model {folder} --epochs 1 --quiet").code == 0
    assert Path("runs/train-2/summary.json").exists()


def test_a_users_file_is_a_model(command) -> None:
    Path("nets.py").write_text(
        "from torch import nn\n"
        "def build(classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    result = command("train --data digits --model nets.py:build --epochs 1 --json --quiet")
    assert result.code == 0
    assert result.json["parameters"] == 650


def test_json_is_one_object_and_the_rest_goes_elsewhere(command) -> None:
    result = command("train --data digits --model small:mlp --epochs 2 --json")
    assert result.json["parameters"] == 2410
    assert "epoch 2/2" in result.err


def test_quiet_is_quiet(command) -> None:
    start = "train --data digits --model small:mlp --epochs 1 --quiet"
    assert command(start).err == ""
    assert command(f"{start} --precision bf16").err == ""


@pytest.mark.parametrize("native", [True, False])
def test_a_precision_that_costs_time_here_is_reported(
    command, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(precision, "cpu_computes_bfloat16", lambda: native)
    start = "train --data digits --model small:mlp --epochs 1 --accelerator cpu"
    result = command(f"{start} --precision bf16 --out low")
    assert ("no bfloat16 arithmetic" in result.err) == (not native)
    assert "bfloat16" not in command(f"{start} --out full").err
    doctor = command("doctor").out
    assert ("not in hardware" in doctor) == (not native)


def test_methods_and_cite_name_every_method(command) -> None:
    listing = command("methods").out
    for slug, kind in all_methods().items():
        assert slug in listing
        card = command(f"methods {slug}").out
        assert kind.summary() in card
        assert command(f"cite {slug}").code == 0
    assert "10.1016/j.neucom.2020.07.048" in command("cite amtml").out
    assert set(command("methods --json").json) == set(all_methods())


def test_doctor_finds_this_installation_sound(command) -> None:
    result = command("doctor --json")
    assert result.code == 0
    assert result.json["sound"]
    assert {"torch", "a training step"} <= {check["name"] for check in result.json["checks"]}


def test_help_answers_without_torch() -> None:
    code = (
        "import sys; from collegium.cli.main import main\n"
        f"for verb in {['', *VERBS]!r}:\n"
        "    code = main([verb, '--help'] if verb else ['--help'])\n"
        "    assert code == 0 and 'torch' not in sys.modules, (verb, sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: collegium") > len(VERBS)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "buffered"),
    [
        (["--help"], True),
        (["compare", "--help"], False),
        (["cite", "amtml", "--json"], True),
        pytest.param(["--help"], False, marks=SLOW),
        pytest.param(["compare", "--help"], True, marks=SLOW),
        pytest.param(["cite", "amtml", "--json"], False, marks=SLOW),
    ],
)
def test_an_answer_that_nobody_reads_ends_silently(words: list[str], buffered: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "collegium.cli.main", *words]
    environment = os.environ | {"PYTHONUNBUFFERED": "" if buffered else "1"}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_report_needs_no_network_and_escapes_names(command, teachers) -> None:
    start = "distill --data digits --student small:cnn --epochs 1 --quiet"
    result = command(f"{start} --teacher <script>x={teachers['wide']} --out run amtml")
    assert result.code == 0, result.err
    page = Path("run/report.html").read_text()
    assert "&lt;script&gt;x" in page
    assert "<script>x" not in page
    assert "http" not in page


def test_a_short_demo_tells_its_table(command, monkeypatch: pytest.MonkeyPatch) -> None:
    short = Optimisation(epochs=1, batch_size=64)
    monkeypatch.setattr(collegium.demo, "OPTIMISATION", short)
    result = command("demo --quiet")
    assert result.code == 0, result.err
    for name in ("teacher wide", "student alone", "student, amtml", "mean weight"):
        assert name in result.out
    assert Path("runs/demo/weights.npz").exists()
    assert command("demo --quiet --overwrite").code == 0
    assert not Path("runs/demo-2").exists()
    rows = json.loads(json.dumps(Record("runs/demo").teachers))
    assert [row["name"] for row in rows] == ["wide", "residual", "dense"]


def test_teachers_are_measured_on_all_of_validation_only_where_one_is_chosen_by_it(
    distil, monkeypatch: pytest.MonkeyPatch, all_digits
) -> None:
    monkeypatch.setattr(collegium.runner.setup, "SAMPLED", 7)

    def sevenths(words: str) -> list[float]:
        result = distil(words)
        assert result.code == 0
        rows = Record(words.split()[1]).teachers
        return [abs(7 * row["accuracy"] - round(7 * row["accuracy"])) for row in rows]

    assert max(sevenths("--out mean avg_mkd")) < 1e-9
    assert max(sevenths("--out named kd --teacher wide")) < 1e-9
    assert max(sevenths("--out best kd")) > 1e-3
