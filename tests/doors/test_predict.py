"""What a student says of picture files is what evaluation sees."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import collegium as cg
from collegium.data import load_data
from collegium.record import Record


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
    said = np.array([record_class(row) for row in rows])
    assert (said == kept["student"]).all()
    assert np.mean(said == kept["labels"]) == record.summary["accuracy_last"]
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
    told = command(f"predict run {' '.join(map(str, paths))} --json")
    assert told.code == 0, told.err
    kept = Record("run").read_arrays("predictions.npz")
    names = kept["classes"][kept["student"]].tolist()
    assert [row["classes"][0] for row in told.json["predictions"]] == names
    assert [row["image"] for row in told.json["predictions"]] == list(map(str, paths))


def test_the_most_probable_classes_in_a_line(command, teachers: dict[str, Path], digits) -> None:
    image = digits / "0003.png"
    told = command(f"predict {teachers['wide']} {image} --top 2")
    (row,) = cg.predict(teachers["wide"], [image], top=2)
    first, second = (
        f"{name} {100 * share:.1f} %"
        for name, share in zip(row["classes"], row["probabilities"], strict=True)
    )
    assert told.out == f"{image}  {first}  {second}\n"
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
    told = command(f"predict {teachers['wide']} {digits / '0000.png'} {words}".rstrip())
    if words:
        assert told.code == 2
        assert says in told.err
        assert told.err.count("\n") == 1
        assert "--corrupt" not in told.err
        assert told.out == ""
    else:
        assert command(f"predict {teachers['wide']}").code == 2


def test_a_student_in_json_is_one_object(command, teachers: dict[str, Path], digits: Path) -> None:
    told = command(f"predict {teachers['wide']} {digits / '0000.png'} --json")
    assert json.loads(told.out).keys() == {"folder", "predictions"}
