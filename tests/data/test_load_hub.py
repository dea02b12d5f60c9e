import io
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image as PillowImage

from collegium.data import load_data
from collegium.errors import DataError


class ImageColumn:
    def __init__(self, decode=True):
        self.decode = decode


class ClassLabel:
    def __init__(self, names):
        self.names = names


class Table:
    """What of a `datasets.Dataset` is used, in the form that library documents."""

    def __init__(self, columns, features):
        self.columns, self.features = columns, features

    def cast_column(self, name, feature):
        assert not feature.decode
        return self

    def __getitem__(self, name):
        return self.columns[name]


def cell(seed, size=(32, 32)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}, pixels


def table(count, image="img", label="fine_label"):
    features = {
        image: ImageColumn(),
        "coarse_label": ClassLabel(["animal"]),
        label: ClassLabel(["cat", "dog"]),
    }
    columns = {
        image: [cell(seed)[0] for seed in range(count)],
        "coarse_label": [0] * count,
        label: [seed % 2 for seed in range(count)],
    }
    return Table(columns, features)


@pytest.fixture
def hub(monkeypatch):
    """Installs a `datasets` library whose hub holds what the test puts there."""
    library = ModuleType("datasets")
    store = {}

    def load_dataset(name):
        if name not in store:
            raise ConnectionError(f"Couldn't reach {name}\nand a long traceback")
        return store[name]

    for key, value in {
        "load_dataset": load_dataset,
        "Image": ImageColumn,
        "ClassLabel": ClassLabel,
    }.items():
        setattr(library, key, value)
    monkeypatch.setitem(sys.modules, "datasets", library)
    return SimpleNamespace(store=store)


def refusal(spec):
    with pytest.raises(DataError) as caught:
        load_data(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cifar_without_a_folder_comes_from_the_hub(hub):
    hub.store["uoft-cs/cifar100"] = {"train": table(20), "test": table(4)}
    splits = load_data("cifar100")
    assert (len(splits.train), len(splits.get("validation")), len(splits.get("test"))) == (18, 2, 4)
    test = splits.get("test")
    assert (test.classes, test.name, test.augment) == (("cat", "dog"), "cifar100", "crop-flip")
    assert test.labels_N.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(test.images_NDHW[3].numpy(), cell(3)[1].transpose(2, 0, 1))


def test_any_data_set_with_images_and_labels(hub):
    hub.store["me/pets"] = {
        "train": table(4, "image", "label"),
        "valid": table(2, "image", "label"),
    }
    splits = load_data("hf:me/pets", image_size=16)
    assert splits.train.name == "pets"
    assert splits.train.shape == (3, 16, 16)
    assert len(splits.get("validation")) == 2


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refusal("cifar10")
    assert (
        'pip install "collegium[hub]"; or give the official binary folder, cifar10:DIR' in message
    )


def test_without_the_network(hub):
    message = refusal("cifar10")
    assert "cannot get uoft-cs/cifar10 from the hub: Couldn't reach uoft-cs/cifar10; " in message
    assert "cifar10:DIR" in message


def test_data_of_another_kind(hub):
    hub.store["text"] = {"train": Table({}, {"words": object()})}
    assert "text has the columns words; expected one of images" in refusal("hf:text")
    hub.store["tests"] = {"test": table(2)}
    assert "tests has no train split; it has: test" in refusal("hf:tests")
    assert "hf:NAME_OR_PATH" in refusal("hf:")


def test_a_damaged_cell_is_named(hub):
    damaged = table(3)
    damaged.columns["img"][1] = {"bytes": b"no image", "path": None}
    hub.store["uoft-cs/cifar10"] = {"train": damaged}
    assert "cifar10 train[1] cannot be read as an image" in refusal("cifar10")
