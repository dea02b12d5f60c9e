import numpy as np
import pytest
from PIL import Image

from collegium.data import load_data
from collegium.errors import DataError, UnknownNameError
from tests.making import write_tiny_imagenet


@pytest.fixture
def folder(tmp_path):
    return write_tiny_imagenet(tmp_path)


def test_the_official_folder(folder):
    splits = load_data(f"tiny-imagenet:{folder}")
    train, validation = splits.train, splits.get("validation")
    assert train.classes == ("tench", "crane (n02)", "crane (n03)")
    assert (train.name, train.augment, train.shape) == ("tiny-imagenet", "crop-flip", (3, 64, 64))
    assert train.labels_N.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert validation.labels_N.tolist() == [0, 1, 2, 0, 1, 2]
    assert splits.test is None
    image = Image.open(folder / "val" / "images" / "val_4.JPEG")
    np.testing.assert_array_equal(validation.images_NDHW[4], np.asarray(image).transpose(2, 0, 1))


def test_the_folder_it_is_in(folder):
    assert len(load_data(f"tiny-imagenet:{folder.parent}").train) == 24


def test_the_annotated_pictures_as_test_split(folder):
    splits = load_data(f"tiny-imagenet:{folder}?val=test", validation=0.25)
    assert splits.get("test").labels_N.tolist() == [0, 1, 2, 0, 1, 2]
    assert splits.get("validation").labels_N.bincount().tolist() == [2, 2, 2]
    assert len(splits.train) == 18


def test_annotations_in_another_order_label_the_same_pictures(folder):
    path = folder / "val" / "val_annotations.txt"
    before = load_data(f"tiny-imagenet:{folder}").validation
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    assert load_data(f"tiny-imagenet:{folder}").validation.fingerprint() == before.fingerprint()


def refusal(folder, kind=DataError):
    with pytest.raises(kind) as caught:
        load_data(f"tiny-imagenet:{folder}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit(folder, tmp_path):
    path = folder / "val" / "val_annotations.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[1:]))
    assert "val_0.JPEG is not in val_annotations.txt" in refusal(folder)
    path.write_text("\n".join([*lines, "val_9.JPEG\tn01\t0\t0\t1\t1"]))
    assert "val_9.JPEG is missing, but is in val_annotations.txt" in refusal(folder)
    path.write_text("\n".join(["val_0.JPEG n01", *lines[1:]]))
    assert "line 1: expected FILE, tab, class" in refusal(folder)
    path.write_text("\n".join(["val_0.JPEG\tn04\t0\t0\t1\t1", *lines[1:]]))
    assert "unknown class in" in refusal(folder, UnknownNameError)
    path.write_text("\n".join([*lines, lines[0]]))
    assert "line 7: val_0.JPEG comes a second time" in refusal(folder)
    path.unlink()
    assert "val_annotations.txt is missing" in refusal(folder)
    assert "has no wnids.txt; give the official folder tiny-imagenet-200" in refusal(tmp_path / "x")
    (folder / "wnids.txt").write_text("n01\nn77\n")
    assert "n77/images is missing" in refusal(folder)


def test_an_empty_class(folder):
    for path in (folder / "train" / "n02" / "images").iterdir():
        path.unlink()
    assert "n02/images holds no images" in refusal(folder)
