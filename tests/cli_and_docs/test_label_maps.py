"""Teachers of other classes, as people use them: specialists, mapping files, stores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from collegium.cli.main import main
from collegium.records.run_folder import Record
from tests.cli_and_docs.pages import run_page

PARTS = {"low": "0,1,2,3,4", "mid": "7,6,5,4,3", "high": "6,7,8,9"}


@pytest.fixture(scope="module")
def specialists(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The options that name three teachers, each of some digits."""
    folder = tmp_path_factory.mktemp("specialists")
    for name, classes in PARTS.items():
        words = f"train --data digits --model small:cnn --classes {classes} --epochs 2"
        words += f" --batch-size 32 --quiet --out {folder / name}"
        assert main(words.split()) == 0
    return " ".join(f"--teacher {name}={folder / name}" for name in PARTS)


def start(teachers: str, more: str) -> str:
    options = "--epochs 2 --batch-size 64 --quiet"
    return f"distill --data digits --student small:cnn {options} {teachers} {more}"


def tensors(folder: str) -> dict[str, torch.Tensor]:
    with safe_open(f"{folder}/student.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_specialists_train_one_student_live_and_stored(command, specialists: str) -> None:
    live = command(start(specialists, "--out live --json amtml"))
    assert live.code == 0, live.err
    record = Record("live")
    rows = record.read_arrays("weights.npz")
    assert np.allclose(rows["weights"].sum(axis=1), 1, atol=1e-5)
    assert (rows["weights"] == 0).any(axis=1).all()  # nobody knows every digit
    arrays = record.read_arrays("predictions.npz")
    known = np.isin(arrays["labels"], [0, 1, 2, 3, 4])
    assert ((arrays["teachers"][0] >= 0) == known).all()
    low, mid, _ = record.teachers
    assert low["accuracy_known"] > low["accuracy"]
    assert mid["classes"] == ["7", "6", "5", "4", "3"]
    assert mid["labels"][0] == {"theirs": ["3"], "ours": ["3"]}
    assert {"accuracy_known.low", "accuracy.low", "agreement.low"} <= record.summary.keys()
    kept = "--store answers --store-logits fp32 --store-hints fp32"
    for out in ("first", "second"):
        result = command(start(specialists, f"{kept} --out {out} amtml"))
        assert result.code == 0, result.err
        for name, tensor in tensors("live").items():
            assert torch.equal(tensor, tensors(out)[name]), name
    assert Record("second").summary["store_hits"] == 1
    assert command("store verify answers").code == 0


def test_a_teacher_in_another_order_leaves_the_same_student(
    command, teachers: dict[str, Path]
) -> None:
    weights = tensors(str(teachers["wide"]))
    order = torch.tensor([3, 1, 4, 5, 9, 2, 6, 8, 7, 0])
    last = list(weights)[-1].rpartition(".")[0]
    turned = {k: v[order] if k.startswith(last) else v for k, v in weights.items()}
    with safe_open(teachers["wide"] / "student.safetensors", framework="pt") as file:
        metadata = file.metadata() | {"classes": json.dumps([str(n) for n in order.tolist()])}
    save_file(turned, "turned.safetensors", metadata=metadata)
    for name, model in (("one", teachers["wide"]), ("two", "small:cnn-wide@turned.safetensors")):
        result = command(start(f"--teacher a={model}", f"--out {name} avg_mkd"))
        assert result.code == 0, result.err
    for key, tensor in tensors("one").items():
        assert torch.allclose(tensor, tensors("two")[key], atol=1e-4), key


def test_the_page_runs_from_top_to_bottom(command, quickstart) -> None:
    done = run_page("label-maps.md", command)
    assert len(done.outputs) == 7
    assert Record("runs/together").run["labels"]["wide"]["1"] == ["1", "7"]
    assert Record("runs/together").run == json.loads(Path("runs/together/run.json").read_text())
    assert command("resume runs/together").code == 0
    assert done.names["weights"].tolist() == [[0.5, 0.5], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]


def test_accuracy_is_reported_over_all_and_over_what_is_known(command, specialists: str) -> None:
    low = specialists.split()[1].partition("=")[2]
    all_of_them = command(f"evaluate --data digits --model {low} --json").json
    some = command(f"evaluate --data digits --model {low} --classes {PARTS['low']} --json").json
    assert all_of_them["accuracy_known"] == some["accuracy"]
    assert all_of_them["images_known"] == some["images"]
    share = all_of_them["images_known"] / all_of_them["images"]
    assert all_of_them["accuracy"] == pytest.approx(share * some["accuracy"])
    assert all_of_them["loss"] == pytest.approx(some["loss"], rel=1e-4)
    assert "accuracy_known" not in some


@pytest.mark.parametrize(
    ("words", "content", "says"),
    [
        ("--labels low=map.json", '{"0": "zero", "1": "1"}', "unknown class of the student 'zero'"),
        ("--labels low=map.json", '{"O": "0", "1": "1"}', "unknown class of the teacher 'O'"),
        ("--labels low=map.json", '{"0": 0}', "a label map is an object from each class"),
        ("--labels low=map.json", '["0", "1"]', "has 5 classes, --labels names 2"),
        ("--labels low=map.json", '{"0": "0"', "map.json cannot be read"),
        ("--labels low=nowhere.json", "{}", "nowhere.json cannot be read"),
        ("--labels lowe=map.json", '["0", "1"]', "did you mean 'low'"),
        ("--labels low", "{}", "--labels takes NAME=FILE"),
        ("--classes 5,6", "{}", "have no name in common"),
        ("--classes 3", "{}", "at least two classes"),
        ("--classes 3,x", "{}", "unknown class in digits 'x'"),
    ],
)
def test_label_maps_that_make_no_sense(
    command, specialists: str, words: str, content: str, says: str
) -> None:
    Path("map.json").write_text(content)
    low = " ".join(specialists.split()[:2])
    result = command(start(low, f"--out run {words} avg_mkd"))
    assert result.code == 2, result.err
    assert says in result.err
    assert result.err.count("\n") == 1
    assert not Path("run").exists()


def test_a_store_of_another_mapping_is_refused(command, specialists: str) -> None:
    mid = specialists.split()[3]
    build = f"store build --data digits --views 1 --quiet --out answers --teacher {mid}"
    assert command(build).code == 0
    Path("map.json").write_text('{"7": "3", "3": "7", "5": "5"}')
    result = command(f"{build} --labels mid=map.json")
    assert result.code == 2
    assert "teacher mid of store answers is for labels" in result.err


def test_a_store_of_some_classes_is_verified_on_them(command, specialists: str) -> None:
    low = " ".join(specialists.split()[:2])
    result = command(start(low, "--classes 2,0,9 --out run --store some avg_mkd"))
    assert result.code == 0, result.err
    assert Record("run").run["classes"] == ["2", "0", "9"]
    checked = command("store verify some --json --quiet")
    assert checked.code == 0, checked.err
    assert set(checked.json["compared"]) == {"low"}
