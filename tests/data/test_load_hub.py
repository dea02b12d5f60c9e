"""What the `datasets` library reads, by that library itself; only its hub is a stand-in."""

import re
import socket
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as PillowImage

from collegium.build import splits_from
from collegium.data import load_data
from collegium.data.images import load as albums
from collegium.data.images.lazy import LazyImages
from collegium.errors import DataError, UnknownNameError

datasets = pytest.importorskip("datasets")

NAMES = ["cat", "dog"]


def pixels(seed, side=8):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def table(count, image="img", label="fine_label", kind=None, labels=None, start=0):
    """A table of noise; the labels alternate."""
    features = {
        image: datasets.Image(),
        "coarse_label": datasets.ClassLabel(names=["animal"]),
        label: kind or datasets.ClassLabel(names=NAMES),
    }
    columns = {
        image: [PillowImage.fromarray(pixels(start + row)) for row in range(count)],
        "coarse_label": [0] * count,
        label: labels or [row % 2 for row in range(count)],
    }
    if kind is not None:
        features.pop("coarse_label")
        columns.pop("coarse_label")
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def hub(monkeypatch):
    """A hub that holds what the test puts there, and no network."""
    store = {}
    load_dataset = datasets.load_dataset

    def load(path, name=None, **options):
        return store[path, name] if (path, name) in store else load_dataset(path, name, **options)

    def unknown(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return SimpleNamespace(store=store)


def splits_of(**tables):
    return datasets.DatasetDict(tables)


def refusal(spec, kind=DataError, **options):
    with pytest.raises(kind) as caught:
        load_data(spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(train, count):
    assert (train.classes, train.augment, train.shape) == (tuple(NAMES), "crop-flip", (3, 8, 8))
    assert train.labels_N.tolist() == [row % 2 for row in range(count)]
    for row in range(count):
        np.testing.assert_array_equal(train.images_NDHW[row], pixels(row).transpose(2, 0, 1))


def test_a_parquet_file(tmp_path):
    table(6).to_parquet(tmp_path / "pets.parquet")
    splits = load_data(f"hf:{tmp_path / 'pets.parquet'}", validation=0.0)
    assert splits.train.name == "pets"
    assert (splits.validation, splits.test) == (None, None)
    check(splits.train, 6)


def test_several_parquet_files_by_a_pattern(tmp_path):
    table(4).to_parquet(tmp_path / "part-0.parquet")
    table(4, start=4).to_parquet(tmp_path / "part-1.parquet")
    check(load_data(f"hf:{tmp_path}/part-*.parquet", validation=0.0).train, 8)


def test_a_folder_of_parquet_files(tmp_path):
    table(6).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    table(2, start=50).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    splits = load_data(f"hf:{tmp_path}", validation=0.0)
    check(splits.train, 6)
    np.testing.assert_array_equal(splits.get("test").images_NDHW[1], pixels(51).transpose(2, 0, 1))


def test_saved_to_disk(tmp_path):
    splits_of(train=table(6), validation=table(2)).save_to_disk(tmp_path / "both")
    table(6).save_to_disk(tmp_path / "one")
    both = load_data(f"hf:{tmp_path / 'both'}")
    check(both.train, 6)
    assert len(both.get("validation")) == 2
    check(load_data(f"hf:{tmp_path / 'one'}", validation=0.0).train, 6)


def test_an_image_folder(tmp_path):
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for row in range(count):
            path = tmp_path / "pets" / split / NAMES[row % 2] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(pixels(row)).save(path)
    splits = load_data(f"hf:{tmp_path / 'pets'}")
    assert [len(splits.get(name)) for name in ("train", "validation", "test")] == [6, 2, 2]
    assert splits.train.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(splits.train.images_NDHW[1], pixels(2).transpose(2, 0, 1))
    broken = tmp_path / "pets" / "train" / "dog" / "5.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert f"pets train[5] ({broken}) cannot be read" in refusal(f"hf:{tmp_path / 'pets'}")


def test_what_does_not_fit_is_decoded_from_the_memory_map_by_workers(tmp_path, monkeypatch):
    table(6).save_to_disk(tmp_path / "pets")
    decoded = load_data(f"hf:{tmp_path / 'pets'}", validation=0.0).train
    monkeypatch.setattr(albums, "free_memory", lambda: 0)
    encoded = load_data(f"hf:{tmp_path / 'pets'}", validation=0.0).train
    assert isinstance(encoded.images_NDHW, LazyImages)
    places = decoded.labels_N.new_tensor([5, 0, 3])
    (streamed,) = encoded.stream([places], workers=1)
    np.testing.assert_array_equal(streamed, decoded.images_NDHW[places])
    before = encoded.fingerprint()
    table(6, start=1).save_to_disk(tmp_path / "others")
    assert load_data(f"hf:{tmp_path / 'others'}", validation=0.0).train.fingerprint() != before


def test_columns_and_splits_by_name(tmp_path):
    side = table(4, "side").select_columns(["side"])
    two = datasets.concatenate_datasets([table(4, "front"), side], axis=1)
    splits_of(tiny=two, big=two).save_to_disk(tmp_path / "pets")
    place = f"hf:{tmp_path / 'pets'}"
    assert "no train split; it has: tiny, big (?train=NAME takes another)" in refusal(place)
    assert "expected one of images and one of classes: name them, as in ?image=NAME" in refusal(
        f"{place}?train=tiny"
    )
    splits = load_data(f"{place}?train=tiny&test=big&image=front&label=coarse_label")
    assert (splits.train.classes, len(splits.get("test"))) == (("animal",), 4)
    assert "unknown split" in refusal(f"{place}?train=tinny", UnknownNameError)
    message = refusal(f"{place}?train=tiny&image=font", UnknownNameError)
    assert "unknown column" in message
    assert "did you mean 'front'" in message
    message = refusal(f"{place}?imag=front", UnknownNameError)
    assert "unknown option of hf 'imag'; did you mean 'image'" in message


def test_classes_that_are_words_or_numbers(tmp_path):
    words = ["dog", "cat", "dog", "emu"]
    splits_of(
        train=table(4, "image", "label", datasets.Value("string"), words),
        test=table(2, "image", "label", datasets.Value("string"), ["emu", "cat"]),
    ).save_to_disk(tmp_path / "words")
    splits = load_data(f"hf:{tmp_path / 'words'}", validation=0.0)
    assert splits.train.classes == ("cat", "dog", "emu")
    assert splits.train.labels_N.tolist() == [1, 0, 1, 2]
    assert splits.get("test").labels_N.tolist() == [2, 0]
    table(4, "x", "label", datasets.Value("int32"), [2, 0, 1, 1]).save_to_disk(tmp_path / "ints")
    ints = load_data(f"hf:{tmp_path / 'ints'}", validation=0.0).train
    assert (ints.classes, ints.labels_N.tolist()) == (("0", "1", "2"), [2, 0, 1, 1])


def test_classes_that_are_none(tmp_path):
    strange = {
        "half": (datasets.Value("float32"), [0.5, 1.0, 0.0]),
        "none": (datasets.Value("string"), ["cat", None, "dog"]),
        "negative": (datasets.Value("int64"), [0, -1, 1]),
    }
    for name, (kind, labels) in strange.items():
        table(3, "image", "label", kind, labels).save_to_disk(tmp_path / name)
        assert f"{name}, train, column label: " in refusal(f"hf:{tmp_path / name}")


def test_a_class_that_train_has_not(tmp_path):
    kind = datasets.Value("string")
    splits_of(
        train=table(2, "image", "label", kind, NAMES),
        test=table(2, "image", "label", kind, ["cat", "dogg"]),
    ).save_to_disk(tmp_path / "pets")
    message = refusal(f"hf:{tmp_path / 'pets'}", UnknownNameError)
    assert "'dogg'; did you mean 'dog'" in message


def coloured(names, labels, start=0):
    """A table whose numbers stand for names of its own."""
    kind = datasets.ClassLabel(names=names)
    return table(len(labels), "image", "label", kind, labels, start)


def test_every_split_is_matched_to_train_by_its_own_names(tmp_path):
    train = coloured(["blue", "green", "red"], [0, 1, 2, 0, 1, 2])
    test = coloured(["green", "red"], [0, 1], 50)
    splits_of(train=train, test=test).save_to_disk(tmp_path / "named")
    splits = load_data(f"hf:{tmp_path / 'named'}", validation=0.0)
    assert splits.get("test").classes == ("blue", "green", "red")
    assert splits.get("test").labels_N.tolist() == [1, 2]
    words = table(2, "image", "label", datasets.Value("string"), ["red", "blue"])
    splits_of(train=train, test=words).save_to_disk(tmp_path / "words")
    assert load_data(f"hf:{tmp_path / 'words'}").get("test").labels_N.tolist() == [2, 0]
    spoken = table(3, "image", "label", datasets.Value("string"), ["red", "blue", "green"])
    splits_of(train=spoken, test=test).save_to_disk(tmp_path / "spoken")
    assert load_data(f"hf:{tmp_path / 'spoken'}", validation=0.0).get("test").labels_N.tolist() == [
        1,
        2,
    ]
    violet = coloured(["green", "violet"], [0, 1])
    splits_of(train=train, test=violet).save_to_disk(tmp_path / "other")
    assert "'violet'" in refusal(f"hf:{tmp_path / 'other'}", UnknownNameError)


def test_tables_given_from_python_are_read_as_those_of_a_string(tmp_path):
    train = coloured(["blue", "green", "red"], [0, 1, 2, 0])
    test = coloured(["green", "red"], [0, 1], 50)
    splits = splits_from(train, None, test, 0.0, 0)
    splits_of(train=train, test=test).save_to_disk(tmp_path / "set")
    saved = load_data(f"hf:{tmp_path / 'set'}", validation=0.0)
    for name in ("train", "test"):
        assert splits.get(name).fingerprint() == saved.get(name).fingerprint()
    with pytest.raises(DataError, match="expected one of images and one of classes"):
        splits_from(train.remove_columns("label"), None, None, 0.0, 0)


def test_names_without_examples_and_forms_of_unicode(tmp_path):
    train = coloured(["caf\u00e9", "cafe\u0301", "red"], [0, 1, 0, 1])
    splits_of(train=train, test=coloured(["cafe\u0301"], [0])).save_to_disk(tmp_path / "set")
    splits = load_data(f"hf:{tmp_path / 'set'}", validation=0.0)
    assert splits.train.classes == ("caf\u00e9", "red")
    assert splits.train.labels_N.tolist() == [0, 0, 0, 0]
    assert splits.get("test").labels_N.tolist() == [0]
    one, none = splits.notes
    assert one.startswith("set: two names are one class, in two Unicode forms: ")
    assert none == "set: no training example is of 1 of the 2 classes: red"


def test_bytes_without_the_library_s_own_types(tmp_path):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    files = []
    for row in range(4):
        file = io.BytesIO()
        PillowImage.fromarray(pixels(row)).save(file, "PNG")
        files.append(file.getvalue())
    pq.write_table(pa.table({"jpg": files, "cls": [0, 1, 0, 1]}), tmp_path / "plain.parquet")
    train = load_data(f"hf:{tmp_path / 'plain.parquet'}?label=cls", validation=0.0).train
    np.testing.assert_array_equal(train.images_NDHW[3], pixels(3).transpose(2, 0, 1))
    assert train.classes == ("0", "1")


def test_a_split_without_labels_is_left_out(tmp_path):
    hidden = table(2, labels=[-1, -1])
    splits_of(train=table(4), test=hidden).save_to_disk(tmp_path / "pets")
    splits = load_data(f"hf:{tmp_path / 'pets'}", validation=0.0)
    assert splits.test is None
    assert splits.notes == ("pets: test has no labels (all are -1) and is not used",)


def damaged(count, row):
    """A table with a row that is no image."""
    whole = table(count).cast_column("img", datasets.Image(decode=False))
    cells = list(whole["img"])
    cells[row] = {"bytes": b"no image", "path": None}
    features = whole.features
    return (
        whole.remove_columns("img")
        .add_column("img", cells)
        .cast(
            datasets.Features(
                {
                    "coarse_label": features["coarse_label"],
                    "fine_label": features["fine_label"],
                    "img": datasets.Image(),
                }
            )
        )
    )


def test_a_damaged_cell_is_named_or_skipped(tmp_path):
    damaged(4, 1).save_to_disk(tmp_path / "pets")
    assert "pets train[1] cannot be read as an image" in refusal(f"hf:{tmp_path / 'pets'}")
    splits = load_data(f"hf:{tmp_path / 'pets'}?corrupt=skip", validation=0.0)
    assert splits.train.labels_N.tolist() == [0, 0, 1]
    assert "skipped 1 of 4 images that cannot be decoded: pets train[1]" in splits.notes[0]


def test_cifar_without_a_folder_comes_from_the_hub(hub):
    hub.store["uoft-cs/cifar100", None] = splits_of(train=table(20), test=table(4))
    splits = load_data("cifar100")
    assert (len(splits.train), len(splits.get("validation")), len(splits.get("test"))) == (18, 2, 4)
    test = splits.get("test")
    assert (test.name, test.augment) == ("cifar100", "crop-flip")
    check(test, 4)
    assert load_data("cifar100?labels=coarse").train.classes == ("animal",)


def test_a_configuration_of_the_hub(hub):
    hub.store["me/pets", "large"] = splits_of(train=table(4), valid=table(2))
    splits = load_data("hf:me/pets?config=large", image_size=16)
    assert (splits.train.name, splits.train.shape) == ("pets", (3, 16, 16))
    assert len(splits.get("validation")) == 2


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refusal("cifar10")
    assert (
        'pip install "collegium[hub]"; or give the official binary folder, cifar10:DIR' in message
    )


def test_without_the_network(hub):
    started = time.perf_counter()
    message = refusal("cifar10")
    assert "cannot get uoft-cs/cifar10 from the hub: Couldn't reach 'uoft-cs/cifar10'" in message
    assert "cifar10:DIR" in message
    assert time.perf_counter() - started < 5


def test_data_of_another_kind(tmp_path, capfd):
    datasets.Dataset.from_dict({"words": ["a"]}).save_to_disk(tmp_path / "text")
    assert "text has the columns words; expected one of images" in refusal(
        f"hf:{tmp_path / 'text'}"
    )
    assert "hf:NAME_OR_PATH" in refusal("hf:")
    assert "there is no file or folder" in refusal(f"hf:{tmp_path / 'nowhere'}")
    assert "there is no file or folder nowhere.parquet" in refusal("hf:nowhere.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    capfd.readouterr()
    assert "the datasets library cannot read" in refusal(f"hf:{tmp_path / 'broken.parquet'}")
    assert capfd.readouterr().err == ""


def test_a_part_is_taken_off_a_stream_in_an_order_that_is_always_the_same(tmp_path, monkeypatch):
    labels = [row // 60 for row in range(120)]  # sorted by class, as many are
    table(120, labels=labels).to_parquet(str(tmp_path / "many.parquet"))
    first, again = (
        load_data(f"hf:{tmp_path}/many.parquet?label=fine_label&stream=40").train for _ in range(2)
    )
    assert len(first) == 36  # and 4 held out
    assert set(first.labels_N.tolist()) == {0, 1}
    np.testing.assert_array_equal(first.images_NDHW, again.images_NDHW)
    known = {pixels(row).tobytes() for row in range(120)}
    assert {image.transpose(1, 2, 0).tobytes() for image in first.images_NDHW.numpy()} <= known


def test_a_part_that_is_no_number_is_refused(tmp_path):
    table(4).to_parquet(str(tmp_path / "few.parquet"))
    assert "?stream=all: give the number" in refusal(f"hf:{tmp_path}/few.parquet?stream=all")
    assert "from 1" in refusal(f"hf:{tmp_path}/few.parquet?stream=0")
    table(4).save_to_disk(str(tmp_path / "saved"))
    assert "here already" in refusal(f"hf:{tmp_path}/saved?stream=2")


STRINGS = datasets.Value("string")
NUMBERS = datasets.Value("int64")
WORDS = {"kind": STRINGS, "labels": ["cat", "dog"] * 2}
OTHERS = {
    "other columns": (table(4), table(4, "picture", "breed"), "test has no column img, .*picture"),
    "words and numbers": (table(4, **WORDS), table(4, kind=NUMBERS), "numbers, those of train"),
    "a class too many": (
        table(4, kind=NUMBERS),
        table(4, kind=NUMBERS, labels=[0, 1, 5, 0]),
        "test, column fine_label: example 2 has label 5, expected 0 to 1",
    ),
    "hidden in part": (table(4), table(4, labels=[0, -1, -1, 1]), r"label -1.*\(2 such examples"),
    "an empty name": (table(4, **{**WORDS, "labels": ["cat", ""] * 2}), table(4, **WORDS), "empty"),
    "no rows": (table(4), table(4).select([]), "a split of it has no rows"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_splits_that_do_not_fit_are_named(tmp_path, kind):
    train, test, message = OTHERS[kind]
    splits_of(train=train, test=test).save_to_disk(tmp_path / "d")
    assert re.search(message, refusal(f"hf:{tmp_path}/d", validation=0.0))


def test_splits_that_nobody_uses_are_named(tmp_path):
    splits_of(train=table(4), dev=table(2), Test=table(3)).save_to_disk(tmp_path / "d")
    (note,) = load_data(f"hf:{tmp_path}/d", validation=0.0).notes
    assert "d: splits not used: dev (2 rows), Test (3 rows); ?validation=NAME" in note
    asked = load_data(f"hf:{tmp_path}/d?validation=dev&test=Test")
    assert (asked.notes, len(asked.get("validation"))) == ((), 2)
