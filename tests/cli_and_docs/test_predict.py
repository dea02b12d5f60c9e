"""What a student says of picture files is what evaluation sees."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import collegium as cg
from collegium.data import load_data
from collegium.records.run_folder import Record


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All test digits as files, in their order."""
    folder = tmp_path_factory.mktemp("digits")
    test = load_data("digits").test
    assert test is not None
    for place, pixels in enumerate(np.asarray(test.images_NDHW)):
        Image.fromarray(pixels[0]).save(folder / f"{place:04}.png")
    return folder


def test_a_folder_of_test_images_gives_the_runs_predictions(
    teachers: dict[str, Path], digits: Path
) -> None:
    record = Record(teachers["wide"])
    kept = record.read_arrays("predictions.npz")
    rows = cg.predict(teachers["wide"], [digits], top=10)
    predicted = np.array([record_class(row) for row in rows])
    assert (predicted == kept["student"]).all()
    assert np.mean(predicted == kept["labels"]) == record.summary["accuracy_last"]
    assert all(sum(row["probabilities"]) == pytest.approx(1) for row in rows)


def record_class(row: dict) -> int:
    return int(row["classes"][0])


def test_pictures_of_a_folder_of_classes_too(command, tmp_path: Path) -> None:
    """Colour, other sizes than the run's, turned by the camera: prepared as evaluation does it."""
    generator = np.random.default_rng(0)
    paths = []
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            Path("pets", split, name).mkdir(parents=True)
            for place in range(8):
                pixels = generator.integers(0, 255, (40 + place, 50, 3), np.uint8)
                pixels[: 20 if name == "cat" else 1] //= 4
                exif = Image.Exif()
                exif[0x0112] = 1 + place % 8
                path = Path("pets", split, name, f"{place}.jpg")
                Image.fromarray(pixels).save(path, exif=exif)
                paths += [path] if split == "val" else []
    words = "--data folder:pets?val=test --model cifar:resnet8 --epochs 1 --batch-size 8 --quiet"
    assert command(f"train {words} --out run").code == 0
    result = command(f"predict run {' '.join(map(str, paths))} --json")
    assert result.code == 0, result.err
    kept = Record("run").read_arrays("predictions.npz")
    names = kept["classes"][kept["student"]].tolist()
    assert [row["classes"][0] for row in result.json["predictions"]] == names
    assert [row["image"] for row in result.json["predictions"]] == list(map(str, paths))


def test_the_most_probable_classes_in_a_line(command, teachers: dict[str, Path], digits) -> None:
    image = digits / "0003.png"
    result = command(f"predict {teachers['wide']} {image} --top 2")
    (row,) = cg.predict(teachers["wide"], [image], top=2)
    first, second = (
        f"{name} {100 * share:.1f} %"
        for name, share in zip(row["classes"], row["probabilities"], strict=True)
    )
    assert result.out == f"{image}  {first}  {second}\n"
    answer = command(f"predict {teachers['wide']} {image} --top 99 --json").json
    assert len(answer["predictions"][0]["classes"]) == 10
    assert answer["predictions"][0]["probabilities"][:2] == row["probabilities"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("missing.png", "image missing.png: no such file"),
        ("torn.png", "torn.png cannot be read as an image"),
        ("note.txt", "note.txt cannot be read as an image: not a PNG, JPEG, WebP, BMP, TIFF"),
        ("empty", "empty holds no images"),
        ("", "no image was given"),
        ("torn.png --top 0", "--top must be at least 1"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(
    command, teachers: dict[str, Path], digits: Path, words: str, says: str
) -> None:
    Path("torn.png").write_bytes((digits / "0000.png").read_bytes()[:60])
    Path("note.txt").write_text("no picture")
    Path("empty").mkdir()
    result = command(f"predict {teachers['wide']} {digits / '0000.png'} {words}".rstrip())
    if words:
        assert result.code == 2
        assert says in result.err
        assert result.err.count("\n") == 1
        assert "--corrupt" not in result.err
        assert result.out == ""
    else:
        assert command(f"predict {teachers['wide']}").code == 2


def test_a_student_in_json_is_one_object(command, teachers: dict[str, Path], digits: Path) -> None:
    result = command(f"predict {teachers['wide']} {digits / '0000.png'} --json")
    assert json.loads(result.out).keys() == {"folder", "predictions"}


def test_depth_and_shape_are_as_in_training(command, tmp_path: Path) -> None:
    """Wide pictures of 12 bits in 16: read, predicted and loaded by the card alike; also twice as
    large, and with a folder called like an image among them, which is reported."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name in ("cat", "dog"):
            Path("deep", split, name).mkdir(parents=True)
            for place in range(count):
                values = generator.integers(0, 2000, (8, 24)).astype(np.uint16)
                values[: 4 if name == "cat" else 1] += 2000
                Image.fromarray(values).save(Path("deep", split, name, f"{place}.png"))
                large = Path("large", name, f"{place}.png")
                large.parent.mkdir(parents=True, exist_ok=True)
                if split == "test":
                    Image.fromarray(values.repeat(2, 0).repeat(2, 1)).save(large)
    words = "--data folder:deep --model small:cnn --epochs 2 --batch-size 8 --quiet --out run"
    result = command(f"train {words}")
    assert result.code == 0
    assert "pixels of more than 8 bits run from" in result.err
    record = Record("run")
    assert record.run["pixels"] == {"range": [0.0, 4095.0]}
    assert command("evaluate --data folder:deep --model run --json").code == 0
    Path("deep/test/cat/folder.png").mkdir()
    result = command("predict run deep/test --json")
    assert "skipped 1 file, no images: 1 folder called .png" in result.err
    kept = record.read_arrays("predictions.npz")
    predicted = [row["classes"][0] for row in result.json["predictions"]]
    assert predicted == kept["classes"][kept["student"]].tolist()
    again = command("predict run large --json").json["predictions"]
    for one, other in zip(result.json["predictions"], again, strict=True):
        if one["classes"] == other["classes"]:
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=0.02)
    assert command("export run --format safetensors --quiet").code == 0
    card = Path("run/export/safetensors/README.md").read_text()
    lines = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    names: dict[str, Any] = {}
    Path("image.png").write_bytes(Path("deep/test/cat/0.png").read_bytes())
    exec(lines.partition("network =")[0], names)  # as whoever reads the card would
    with Image.open("image.png") as image:
        plain = (np.asarray(image).astype(int) >> 4).astype(np.uint8)
    np.testing.assert_array_equal(names["image"], plain)
