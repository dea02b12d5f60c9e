"""No file of a class folder is lost without a line, and one picture does not change the others."""

import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from collegium.data import load_data, splits_of
from collegium.data.images.find import SUFFIXES, find_images, image_files
from collegium.errors import DataError, RequestError, UnknownNameError
from collegium.utils.from_json import as_size

HIDDEN = ".x.png"


def notes_of(root, **options):
    return load_data(f"folder:{root}", validation=0.0, **options).notes


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG", ".JPG", ".TiF"])
def test_every_suffix_is_read(tmp_path, write_picture, suffix):
    path = write_picture(tmp_path / "train" / "x" / "a.png")
    mode = "1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB"
    with Image.open(path) as image:
        image.convert(mode).save(path.with_name(f"b{suffix}"))
    assert len(load_data(f"folder:{tmp_path}", validation=0.0).train) == 2


def test_folders_in_class_folders_are_their_class_in_torchvisions_order(tmp_path, write_picture):
    names = ("b.png", "deep/z.png", "deep/er/y.png", "a/c.png", "a.png")
    for seed, name in enumerate(names):
        write_picture(tmp_path / "train" / "x" / name, seed=seed)
    write_picture(tmp_path / "train" / "y" / "only" / "0.png", seed=9)
    train = load_data(f"folder:{tmp_path}", validation=0.0).train
    walked = [
        Path(folder, name)
        for label in ("x", "y")
        for folder, _, files in sorted(os.walk(tmp_path / "train" / label))
        for name in sorted(files)
    ]
    expected = [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in walked]
    np.testing.assert_array_equal(train.images_NDHW, np.stack(expected))
    assert train.labels_N.tolist() == [0] * 5 + [1]
    assert notes_of(tmp_path) == ()


NESTED = {
    "classes of classes": (("pets/cat", "pets/dog", "wild/fox", "wild/owl"), "2 of the 2 .*cat, d"),
    "one of them": (("pets/cat", "pets/dog", "wild"), r"1 of the 2 classes .*\(pets: cat, dog\)"),
    "two levels": (("pets/small/cat", "pets/small/dog", "wild"), "small/cat, small/dog"),
    "years beside images": (("pets", "pets/2020", "pets/2021", "wild"), ""),
    "images/ as in Tiny-ImageNet": (("pets/images", "wild/images"), ""),
    "plain": (("pets", "wild"), ""),
}


@pytest.mark.parametrize("kind", NESTED)
def test_class_folders_of_nothing_but_folders_are_told(tmp_path, write_picture, kind):
    folders, says = NESTED[kind]
    for seed, folder in enumerate(folders):
        write_picture(tmp_path / "train" / folder / "0.png", seed=seed)
    splits = load_data(f"folder:{tmp_path}", validation=0.0)
    assert splits.train.classes == ("pets", "wild")
    assert len(splits.train) == len(folders)
    assert len(splits.notes) == bool(says)
    if says:
        assert re.search(says, splits.notes[0]), splits.notes


def test_links_in_a_circle_end(tmp_path, write_picture):
    write_picture(tmp_path / "train" / "x" / "a.png")
    (tmp_path / "train" / "x" / "again").symlink_to(tmp_path / "train" / "x")
    (tmp_path / "train" / "x" / "up").symlink_to(tmp_path / "train")
    assert len(find_images(tmp_path / "train", "x")) == 1
    assert image_files(tmp_path / "train" / "x")[0] == ["a.png"]


def test_what_is_passed_over_is_counted_in_a_line(picture_folder, write_picture):
    train = picture_folder / "train"
    for name in (
        "cat/1.heic",
        "cat/sub/2.HEIC",
        "dog/3.npy",
        f"dog/{HIDDEN}",
        "dog/notes",
        "x.csv",
    ):
        (train / name).parent.mkdir(exist_ok=True)
        (train / name).write_bytes(b"?")
    for nobody_misses in ("cat/.DS_Store", "dog/Thumbs.db"):
        (train / nobody_misses).write_bytes(b"?")
    (train / "dog" / "folder.png").mkdir()
    (note,) = load_data(f"folder:{picture_folder}").notes
    assert note.startswith("pets: skipped 7 files, no images: 2 .heic, ")
    for part in ("1 .npy", "1 hidden", "1 .csv", "1 folder called .png", "1 without a suffix"):
        assert part in note
    assert "\n" not in note


def test_folders_of_nothing_but_other_files_say_which(tmp_path):
    (tmp_path / "train" / "x").mkdir(parents=True)
    (tmp_path / "train" / "x" / "a.heic").write_bytes(b"?")
    with pytest.raises(DataError, match=r"x holds no images \(.*\), but 1 \.heic; fill or remove"):
        load_data(f"folder:{tmp_path}")


def test_misnamed_splits_are_no_classes(tmp_path, write_picture):
    for split in ("training", "testing"):
        write_picture(tmp_path / split / "cat" / "a.png")
    with pytest.raises(
        DataError, match=r"has no folder train; expected .*; it has testing, training"
    ):
        load_data(f"folder:{tmp_path}")


def test_splits_in_capitals_are_read_and_other_folders_named(tmp_path, write_picture):
    for seed, split in enumerate(("Train", "VAL", "test", "dev")):
        for label in ("cat", "dog"):
            write_picture(tmp_path / split / label / "a.png", seed=2 * seed + (label == "dog"))
    splits = load_data(f"folder:{tmp_path}", validation=0.0)
    assert splits.names() == ("train", "validation", "test")
    (note,) = splits.notes
    assert "not read, since no split has that name: dev/ (2 images); the splits are train, " in note
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"has VAL and val, which mean the same"):
        load_data(f"folder:{tmp_path}")


def test_a_class_called_train_in_capitals_is_a_class(tmp_path, write_picture):
    for seed, label in enumerate(("Plane", "Train")):
        write_picture(tmp_path / label / "a.png", seed=seed)
    assert load_data(f"folder:{tmp_path}", validation=0.0).train.classes == ("Plane", "Train")


def test_a_file_is_to_be_unpacked(tmp_path):
    (tmp_path / "pets.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"pets\.zip is a file, not a folder: unpack it"):
        load_data(f"folder:{tmp_path}/pets.zip")


def test_an_empty_class_of_validation_is_one_it_lacks(picture_folder):
    (picture_folder / "val" / "cat" / "a.png").unlink()
    (note,) = load_data(f"folder:{picture_folder}").notes
    assert "has no images of 1 of the 2 classes: cat" in note


def test_names_in_two_unicode_forms_are_one_class(tmp_path, write_picture):
    nfc, nfd = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    for split, name in (("train", nfd), ("train", "tea"), ("val", nfc), ("val", "tea")):
        write_picture(tmp_path / split / name / "a.png", seed=len(name))
    splits = load_data(f"folder:{tmp_path}")
    assert splits.train.classes == (nfd, "tea")
    assert splits.get("validation").labels_N.tolist() == [0, 1]
    assert splits.notes == ()
    write_picture(tmp_path / "train" / nfc / "b.png")
    splits = load_data(f"folder:{tmp_path}")
    assert splits.train.labels_N.tolist() == [0, 0, 1] or splits.train.labels_N.tolist() == [
        0,
        1,
        0,
    ]
    assert "two names are one class, in two Unicode forms" in splits.notes[0]


def test_names_that_differ_in_spaces_are_told(tmp_path, write_picture):
    for name in ("cat", "cat ", "dog"):
        write_picture(tmp_path / "train" / name / "a.png", seed=len(name))
    assert "classes that differ in case or spaces alone: 'cat', 'cat '" in notes_of(tmp_path)[0]


def wide(root, write_picture, count=12):
    for place in range(count):
        write_picture(root / "train" / "ab"[place % 2] / f"{place}.png", (96, 24), seed=place)
    for label in "ab":
        write_picture(root / "test" / label / "0.png", (96, 24), seed=50)
    return root


def test_one_picture_of_another_size_changes_no_other(tmp_path, write_picture):
    root = wide(tmp_path / "set", write_picture)
    before = load_data(f"folder:{root}", validation=0.0)
    write_picture(root / "test" / "a" / "1.png", (98, 24), seed=51)
    after = load_data(f"folder:{root}", validation=0.0)
    assert after.train.shape == (3, 24, 96)
    assert after.train.fingerprint() == before.train.fingerprint()
    np.testing.assert_array_equal(
        after.get("test").images_NDHW[0], before.get("test").images_NDHW[0]
    )
    (note,) = after.notes
    assert "1 of 15 images are not 24x96 (rows x columns)" in note
    assert f"{root / 'test' / 'a' / '1.png'} (24x98)" in note
    assert "--image-size ROWS,COLUMNS" in note
    pictures = {
        split: [(Image.open(path), 0) for path in sorted((root / split).glob("*/*"))]
        for split in ("train", "test")
    }
    python = splits_of(pictures)
    assert python.train.shape == (3, 24, 96)
    assert "1 of 15 images are not 24x96" in python.notes[0]


def test_a_size_can_be_asked_for(tmp_path, write_picture):
    root = wide(tmp_path / "set", write_picture)
    for options in ({"image_size": (12, 48)}, {}):
        query = "" if options else "?size=12,48"
        splits = load_data(f"folder:{root}{query}", validation=0.0, **options)
        assert (splits.train.shape, splits.notes) == ((3, 12, 48), ())
    with Image.open(root / "train" / "a" / "0.png") as image:
        halved = np.asarray(image.resize((48, 12), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(splits.train.images_NDHW[0], halved)
    assert load_data(f"folder:{root}?size=16", validation=0.0).train.shape == (3, 16, 16)
    with pytest.raises(DataError, match="says size=12,48, --image-size says 16"):
        load_data(f"folder:{root}?size=12,48", image_size=16)
    with pytest.raises(DataError, match="digits images are 8x8"):
        load_data("digits", image_size=(8, 16))


@pytest.mark.parametrize("text", ["0", "5000", "1,2,3", "a", "12,", "-3", "1.5"])
def test_sizes_that_are_none(text):
    with pytest.raises(RequestError, match=r"image.size"):
        as_size(text)


def test_much_that_is_cut_off_is_told(tmp_path, write_picture):
    for place in range(6):
        write_picture(tmp_path / "train" / "a" / f"{place}.png", (80 + 4 * place, 40))
    (note, _) = notes_of(tmp_path)
    assert "images have many sizes" in note
    assert "44 % of its pixels" in note


def test_a_class_of_test_that_train_has_not(picture_folder, write_picture):
    write_picture(picture_folder / "test" / "emu" / "a.png")
    with pytest.raises(UnknownNameError, match="'emu'"):
        load_data(f"folder:{picture_folder}")
    (picture_folder / "test" / "emu" / "a.png").unlink()
    write_picture(picture_folder / "test" / "dog" / "a.png")
    assert load_data(f"folder:{picture_folder}").get("test").labels_N.tolist() == [1]
