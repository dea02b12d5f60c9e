"""MNIST and Fashion-MNIST files, as they are found and as nobody should trust them."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from collegium.data import load_data
from collegium.errors import DataError
from tests.making import idx, write_idx

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inside", ["", "MNIST/raw", "raw"])
def test_the_official_files_under_their_names(tmp_path, mark, packed, inside):
    content = write_idx(tmp_path / inside, mark=mark, packed=packed)
    splits = load_data(f"mnist:{tmp_path}", validation=0.0)
    assert (splits.train.classes, splits.train.augment) == (tuple("0123456789"), "none")
    assert splits.train.name == "mnist"
    for name, part in (("train", "train"), ("test", "t10k")):
        found, (images, labels) = splits.get(name), content[part]
        np.testing.assert_array_equal(found.images_NDHW[:, 0], images)
        np.testing.assert_array_equal(found.labels_N, labels)
        assert torch.equal(found.index_N, torch.arange(len(labels)))


def test_fashion(tmp_path):
    write_idx(tmp_path / "FashionMNIST" / "raw")
    train = load_data(f"fashion-mnist:{tmp_path}").train
    assert train.classes[0] == "T-shirt/top"
    assert train.classes[9] == "Ankle boot"
    assert (len(set(train.classes)), train.augment) == (10, "crop-flip")


def test_validation_is_held_out_of_train_by_class_and_the_test_split_is_left_alone(tmp_path):
    write_idx(tmp_path)
    first, second = (load_data(f"mnist:{tmp_path}", seed=seed) for seed in (0, 1))
    assert torch.bincount(first.get("validation").labels_N).tolist() == [2] * 10
    assert set(first.get("validation").index_N.tolist()) != set(
        second.get("validation").index_N.tolist()
    )
    assert first.get("test").fingerprint() == second.get("test").fingerprint()


def refusal(folder, spec="mnist"):
    with pytest.raises(DataError) as caught:
        load_data(f"{spec}:{folder}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_missing(tmp_path):
    assert "nowhere is not a folder with train-images-idx3-ubyte" in refusal(tmp_path / "nowhere")
    assert "holds no train-images-idx3-ubyte (or .gz, here or in MNIST/raw)" in refusal(tmp_path)
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert "lacks t10k-labels-idx1-ubyte (or .gz)" in refusal(tmp_path)
    assert "mnist needs a place: mnist:DIR" in refusal("")


def header(*shape, kind=8):
    return bytes((0, 0, kind, len(shape))) + struct.pack(f">{len(shape)}I", *shape)


HOSTILE = {
    "empty": (b"", "is no idx file"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "is no idx file"),
    "two axes": (header(2, 2) + bytes(4), "is no idx file of bytes with 3 axes"),
    "floats": (header(1, 1, 1, kind=13) + bytes(4), "is no idx file"),
    "half a header": (header(60_000, 28, 28)[:9], "is no idx file"),
    "nothing": (header(0, 28, 28), "claims 0x28x28 values"),
    "too few": (header(10, 28, 28) + bytes(100), "claims "),
    "too many": (header(1, 2, 2) + bytes(5), "claims "),
    "absurd": (header(2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(9), "claims 4294967295x4294967295"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused_before_memory_is_taken(tmp_path, name, packed):
    write_idx(tmp_path)
    content, message = HOSTILE[name]
    if packed:
        content, message = gzip.compress(content), message.split(" and ")[0].split(" with ")[0]
    (tmp_path / IMAGES).write_bytes(content)
    tracemalloc.start()
    said = refusal(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"{tmp_path / IMAGES} " in said
    assert message in said
    assert peak < 20_000_000


def test_a_gzip_bomb_is_read_no_further_than_its_header_says(tmp_path):
    write_idx(tmp_path)
    (tmp_path / IMAGES).write_bytes(gzip.compress(header(10, 28, 28) + bytes(100_000_000)))
    tracemalloc.start()
    assert "claims 7,840 values and holds more" in refusal(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_truncated_or_garbled_gzip(tmp_path, part):
    write_idx(tmp_path, packed=True)
    path = tmp_path / f"{IMAGES}.gz"
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    assert f"{path} is damaged: " in refusal(tmp_path)
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(50) + content[middle + 50 :])
    assert str(path) in refusal(tmp_path)


def test_labels_that_do_not_fit(tmp_path):
    write_idx(tmp_path)
    (tmp_path / LABELS).write_bytes(idx(np.zeros(199, np.uint8)))
    assert "has 199 labels for 200 images" in refusal(tmp_path)
    (tmp_path / LABELS).write_bytes(idx(np.full(200, 10, np.uint8)))
    assert "has the label 10, expected 0 to 9" in refusal(tmp_path)
