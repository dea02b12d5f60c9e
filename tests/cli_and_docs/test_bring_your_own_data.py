"""Every kind of data through the commands, and the page that describes them."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from collegium.data.data_string import READERS
from collegium.records.run_folder import Record
from tests.cli_and_docs.pages import DOCS, run_page
from tests.making import pictures, write_folder, write_idx, write_tiny_imagenet

PAGE = DOCS / "bring-your-own-data.md"


def write_parquet(path: Path) -> None:
    """Plain bytes and words, as other programs write them."""
    import pyarrow
    import pyarrow.parquet

    files = []
    for image in pictures(40, (32, 32, 3), 2):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    columns = {"photo": files, "breed": ["lily", "rose"] * 20}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


@pytest.fixture
def data(command, tmp_path, monkeypatch):
    """The data the page speaks of, in the folder of the commands."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_folder(Path("pets"))
    write_idx(Path("mnist"))
    write_tiny_imagenet(Path("tiny"), each=12)
    write_parquet(Path("flowers.parquet"))


def test_the_page_runs_from_top_to_bottom(data, command):
    done = run_page("bring-your-own-data.md", command)
    assert len(done.outputs) >= 6
    assert len(done.names["train"]) == 36
    assert done.names["items"].shape == (3, 28, 28)


def test_the_page_and_the_help_name_every_kind_and_every_option(command):
    text = PAGE.read_text()
    result = " ".join(command("train --help").out.split())
    for name, kind in READERS.all().items():
        start = f"{name}:" if kind.needs else name
        assert f"`{start}" in text
        assert start in result
        for option in kind.options:
            assert f"`{option}=" in text, option


def test_skipping_goes_with_the_data_into_the_record_the_store_and_the_comparison(data, command):
    path = Path("pets/train/cat/0003.jpg")
    path.write_bytes(path.read_bytes()[:200])
    start = "--data folder:pets --epochs 1 --batch-size 16 --quiet"
    result = command(f"train {start} --model small:cnn --out runs/a")
    assert result.code == 2
    assert "pets/train/cat/0003.jpg cannot be read as an image" in result.err
    assert not Path("runs/a").exists()
    result = command(f"train {start} --model small:cnn --corrupt skip --out runs/a")
    assert result.code == 0
    assert "pets: skipped 1 of 50 images that cannot be decoded: " in result.err
    assert "warning: train: student: sees grey: the channels of each image are" in result.err
    assert json.loads(Path("runs/a/run.json").read_text())["data"] == "folder:pets?corrupt=skip"
    for words in (
        "evaluate --data folder:pets --model runs/a --corrupt skip --json",
        "store build --data folder:pets --corrupt skip --teacher a=runs/a --views 1 --out st",
        "store verify st --json",
        f"compare {start} --student small:cnn --teacher a=runs/a --methods kd --seeds 1 --jobs 1 "
        "--out cmp --corrupt skip --json",
    ):
        result = command(words)
        assert result.code == 0, (words, result.err)
        assert "skipped 1 of 50" in result.err or words.startswith("compare")
    assert command("evaluate --data folder:pets --model runs/a --json").code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("mnist:nowhere", "nowhere is not a folder with train-images-idx3-ubyte"),
        ("mnsit:mnist", "unknown data 'mnsit'; did you mean 'mnist'"),
        ("mnist:mnist?corrupt=skip", "mnist takes no options, got corrupt=skip"),
        ("tiny-imagenet:pets", "has no wnids.txt; give the official folder"),
        ("folder:tiny", "has no folder train; expected train/CLASS"),
        ("folder:tiny/tiny-imagenet-200", "give tiny-imagenet:tiny/tiny-imagenet-200"),
        ("hf:./nowhere", "there is no file or folder nowhere"),
        ("hf:flowers.parquet", "name them, as in ?image=NAME&label=NAME"),
    ],
)
def test_a_wrong_string_is_one_line(data, command, words, says):
    result = command(f"train --data {words} --model small:cnn")
    assert result.code == 2
    assert says in result.err
    assert result.err.count("\n") == 1


def test_grey_twenty_eight_and_its_networks(data, command):
    for model in ("small:cnn", "cifar:resnet8"):
        out = f"runs/{model.replace(':', '-')}"
        result = command(f"train --data mnist:mnist --model {model} --epochs 1 --out {out} --json")
        assert result.code == 0, result.err
        assert result.json["split"] == "test"
        assert command(f"evaluate --data mnist:mnist --model {out} --json").json["images"] == 50


def test_rows_and_columns_are_an_option_of_every_command(command):
    write_folder(Path("pets"))
    words = "train --data folder:pets --model small:cnn --epochs 1 --batch-size 8 --quiet --out run"
    assert command(f"{words} --image-size 8,12").code == 0
    assert Record("run").run["image_size"] == [8, 12]
    assert command("resume run --quiet").code == 0
    measured = command("evaluate --data folder:pets?size=8,12 --model run --json").json["accuracy"]
    again = command("evaluate --data folder:pets --model run --image-size 8,12 --json")
    assert again.json["accuracy"] == measured == Record("run").summary["accuracy_last"]
    assert command("export run --format pt2 --quiet --json").json["accuracy"] == measured
    for wrong in ("1,2,3", "wide", "0", "9999"):
        result = command(f"evaluate --data folder:pets --model run --image-size {wrong}")
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert "give rows and columns" in result.err
