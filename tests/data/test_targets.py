"""One class for each example, whoever hands it over; anything else is named for what it is."""

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset

import collegium as cg
from collegium.build import splits_from
from collegium.data import as_image_data, splits_of
from collegium.data.targets import read_targets
from collegium.errors import DataError, RequestError, UnknownNameError
from collegium.objectives.objective import class_numbers
from collegium.types import Dims, StudentOutputs, TeacherOutputs

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8)
WANTED = [0, 1, 2, 2, 1, 0]
NAMES = ("ant", "bee", "cat")

RIGHT = {
    "list": WANTED,
    "uint8": np.array(WANTED, np.uint8),
    "int32": torch.tensor(WANTED, dtype=torch.int32),
    "column": np.array(WANTED)[:, None],
    "names": [NAMES[label] for label in WANTED],
    "array of names": np.array(NAMES, object)[WANTED],
}
WRONG = {
    "halves": (np.array(WANTED) / 2, "labels are float64, expected integers.*regression"),
    "floats": (np.array(WANTED, np.float32), r"float32, expected integers.*astype\(int\)"),
    "NaN": (np.array([0, 1, np.nan, 0, 1, 0]), "example 2 has NaN"),
    "several": (np.array([[1, 1, 0], [0, 1, 0]])[[0, 1] * 3], "several classes in a row"),
    "rows of one 1": (np.eye(3)[WANTED], r"6x3 are rows of one 1, .*by labels.argmax\(1\)"),
    "rows of whole ones": (np.eye(3, dtype=int)[WANTED], "one-hot classes or multi-label"),
    "rows of truth": (torch.eye(3)[WANTED].bool(), "one-hot classes or multi-label"),
    "none": (np.zeros((6, 3), int), "several classes in a row, or none"),
    "soft": (np.full((6, 2), 0.5), "soft labels or a regression"),
    "boxes": (np.zeros((6, 2, 4)), r"labels of the shape \(6, 2, 4\)"),
    "ragged": ([[0], [1, 2], [0], [0], [0], [0]], "several lengths"),
    "nothing": ([None, 1, 0, 1, 0, 1], "example 1 has the label 1, example 0 None; expected"),
    "complex": (np.array(WANTED) * 1j, "labels are complex128"),
    "two kinds": (
        [0, "a", 1, "b", 0, 0],
        "example 1 has the label 'a', example 0 0; expected integers",
    ),
    "empty name": (["a", "", "b", "a", "b", "a"], "example 1 has an empty name"),
    "negative": ([0, -1, 0, 0, 0, 1], "example 1 has label -1, expected integers from 0"),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_classes_however_they_are_written(kind: str) -> None:
    found = splits_of({"train": (IMAGES, RIGHT[kind])}).train
    assert found.labels_N.tolist() == WANTED
    assert found.classes == (NAMES if "names" in kind else ("0", "1", "2"))
    items = [(image, label) for image, label in zip(IMAGES, RIGHT[kind], strict=True)]
    assert splits_of({"train": items}).train.labels_N.tolist() == WANTED


def test_truth_values_are_two_classes() -> None:
    assert read_targets(np.array([True, False]), "mine").label_N.tolist() == [1, 0]


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_class_is_named(kind: str) -> None:
    labels, message = WRONG[kind]
    with pytest.raises(DataError, match=message) as caught:
        as_image_data((IMAGES, labels), name="mine")
    assert str(caught.value).startswith("mine: ")
    assert "\n" not in str(caught.value)
    if len(labels) == len(IMAGES) and not isinstance(labels, list):
        with pytest.raises(DataError):
            as_image_data(list(zip(IMAGES, labels, strict=True)), name="mine")


def test_conversions_that_are_guesses_are_told() -> None:
    splits = splits_from((IMAGES, np.array(WANTED) + 1), None, None, 0.0, 0)
    assert "no training example is of 1 of the 4 classes: 0" in splits.notes[0]


class Named(list):
    def __init__(self, classes, labels, images=IMAGES):
        self.classes = classes
        super().__init__((image, label) for image, label in zip(images, labels, strict=True))


def test_every_split_is_matched_to_train_by_its_own_names() -> None:
    train = Named(["blue", "green", "red"], WANTED)
    test = Named(["green", "red"], [0, 1, 1, 0, 0, 1])
    splits = splits_from(train, Subset(test, [0, 1]), test, 0.1, 0)
    assert splits.train.classes == splits.get("test").classes == ("blue", "green", "red")
    assert splits.get("test").labels_N.tolist() == [1, 2, 2, 1, 1, 2]
    assert splits.get("validation").labels_N.tolist() == [1, 2]
    ready = as_image_data(test)
    assert splits_from(train, ready, None, 0.1, 0).get("validation").labels_N.tolist()[0] == 1
    both = splits_from(ConcatDataset([train, train]), None, test, 0.0, 0)
    assert both.get("test").labels_N.tolist() == [1, 2, 2, 1, 1, 2]
    other = Named(["green", "violet"], [0, 1] * 3)
    with pytest.raises(UnknownNameError, match="class in arrays, test 'violet'"):
        splits_from(train, None, other, 0.0, 0)
    unused = Named(["violet", "green"], [1] * 6)
    assert splits_from(train, None, unused, 0.0, 0).get("test").labels_N.tolist() == [1] * 6


def test_words_of_a_split_are_classes_of_train() -> None:
    words = np.array(NAMES)[WANTED]
    splits = splits_from((IMAGES, words), (IMAGES[:2], ["cat", "bee"]), None, 0.0, 0)
    assert splits.get("validation").labels_N.tolist() == [2, 1]
    with pytest.raises(UnknownNameError, match="'bea'; did you mean 'bee'"):
        splits_from((IMAGES, words), (IMAGES[:1], ["bea"]), None, 0.0, 0)
    with pytest.raises(DataError, match="labels are numbers, those of train names"):
        splits_from((IMAGES, words), (IMAGES[:1], [0]), None, 0.0, 0)


def test_a_class_that_train_lacks_is_told_with_its_split() -> None:
    with pytest.raises(DataError, match=r"^arrays, test: example 2 has label 3, .*\(1 such ex"):
        splits_from((IMAGES, WANTED), None, (IMAGES[:3], [0, 1, 3]), 0.0, 0)


def test_forms_of_unicode_are_one_class() -> None:
    train = Named(["cafe\u0301", "tea"], [0, 1] * 3)
    test = Named(["tea", "caf\u00e9"], [0, 1] * 3)
    splits = splits_from(train, None, test, 0.0, 0)
    assert splits.get("test").labels_N.tolist() == [1, 0] * 3


def test_one_name_twice_is_refused() -> None:
    with pytest.raises(DataError, match="a class name occurs twice"):
        as_image_data(Named(["crane", "crane"], [0, 1] * 3))


def test_lists_of_images_and_of_labels() -> None:
    found = splits_of({"train": (list(IMAGES), WANTED)}).train
    assert found.labels_N.tolist() == WANTED
    with pytest.raises(DataError, match="6 images, but 2 labels"):
        as_image_data((list(IMAGES), [0, 1]))
    with pytest.raises(DataError, match="no pixels in images of the shape"):
        as_image_data((IMAGES[:0], []))


LOGITS = torch.zeros(4, 3)
BATCHES = {
    "float": (torch.tensor([0.0, 1, 2, 0]), "labels are float32 of the shape"),
    "several": (torch.ones(4, 3), r"rows of one 1 become these by labels.argmax\(1\)"),
    "truth": (torch.tensor([True, False, True, True]), "labels are bool"),
    "column": (torch.zeros(4, 1, dtype=torch.int64), r"becomes that by labels\[:, 0\]"),
    "too few": (
        torch.zeros(3, dtype=torch.int64),
        r"integer class numbers of the shape \(4,\)",
    ),
    "negative": (torch.tensor([0, -100, 1, 2]), "a label is -100, expected 0 to 2"),
    "beyond": (torch.tensor([0, 3, 1, 2]), "a label is 3, expected 0 to 2"),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_a_batch_is_refused_before_anything_is_computed_of_it(kind: str) -> None:
    labels, message = BATCHES[kind]
    images = torch.rand(4, 1, 4, 4)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    distiller = cg.Distiller(net, {"a": net}, cg.AvgMKD(), image_shape=(1, 4, 4))
    with pytest.raises(RequestError, match=message):
        distiller(images, labels)
    objective = cg.AvgMKD().build(Dims(classes=3, teachers=("a",)))
    given = StudentOutputs(LOGITS), TeacherOutputs(LOGITS[:, None])
    for call in (objective, objective.weigh):
        with pytest.raises(RequestError, match=message):
            call(*given, labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_small_integers_are_classes_and_no_masks(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 1, 1, 0], dtype=dtype)
    assert torch.equal(class_numbers(labels, LOGITS), labels.long())
