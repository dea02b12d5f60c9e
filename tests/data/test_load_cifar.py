import pickle
import time

import numpy as np
import pytest
import torch

from collegium.data import load_data
from collegium.data.readers.cifar import Cifar10Reader, Cifar100Reader
from collegium.errors import DataError

LAYOUTS = {"cifar10": Cifar10Reader, "cifar100": Cifar100Reader}


def record(layout, label, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, 3072, dtype=np.uint8)
    return bytes([7] * (layout.label_bytes - 1) + [label]) + pixels.tobytes()


@pytest.mark.parametrize("name", LAYOUTS)
def test_records_are_read_in_the_order_of_the_files(name, tmp_path, write_cifar):
    layout = LAYOUTS[name]
    last = layout.train_files[-1]
    per_file = 50_000 // len(layout.train_files)
    first, final = record(layout, 3, 0), record(layout, layout.labels.classes - 1, 1)
    contents = {layout.train_files[0]: {2: first}, layout.test_file: {9_999: first}}
    contents.setdefault(last, {})[per_file - 1] = final
    folder = write_cifar(layout, tmp_path / layout.folder, contents)

    splits = load_data(f"{name}:{folder}", validation=0.0)
    train, test = splits.train, splits.get("test")
    assert (len(train), len(test), splits.validation) == (50_000, 10_000, None)
    assert train.labels_N[[0, 2, 49_999]].tolist() == [0, 3, layout.labels.classes - 1]
    assert test.labels_N.nonzero().tolist() == [[9_999]]
    assert torch.equal(train.index_N, torch.arange(50_000))
    planes = np.frombuffer(final, np.uint8)[layout.label_bytes :].reshape(3, 32, 32)
    np.testing.assert_array_equal(train.images_NDHW[49_999].numpy(), planes)
    assert train.classes[0] == "class_0"
    assert (train.name, train.augment, train.shape) == (name, "crop-flip", (3, 32, 32))


def test_the_parent_folder_will_do(tmp_path, write_cifar):
    write_cifar(Cifar10Reader, tmp_path / Cifar10Reader.folder)
    splits = load_data(f"cifar10:{tmp_path}")
    assert (len(splits.train), len(splits.get("validation"))) == (45_000, 5_000)


def refusal(spec):
    with pytest.raises(DataError) as caught:
        load_data(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_not_there(tmp_path):
    message = refusal(f"cifar10:{tmp_path / 'nowhere'}")
    assert "nowhere is not a folder; give the official folder cifar-10-batches-bin" in message


def test_missing_files_are_listed(tmp_path, write_cifar):
    folder = write_cifar(Cifar10Reader, tmp_path / Cifar10Reader.folder)
    (folder / "data_batch_3.bin").unlink()
    (folder / "batches.meta.txt").unlink()
    assert f"{folder} lacks data_batch_3.bin, batches.meta.txt;" in refusal(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("size", [0, 3_073, 30_729_999, 30_730_001])
def test_files_of_another_size(tmp_path, write_cifar, size):
    folder = write_cifar(Cifar10Reader, tmp_path)
    with (folder / "data_batch_1.bin").open("r+b") as file:
        file.truncate(size)
    message = refusal(f"cifar10:{folder}")
    assert f"data_batch_1.bin has {size:,} bytes, expected 30,730,000 (10,000 records" in message


def test_a_cifar100_file_of_another_size(tmp_path, write_cifar):
    folder = write_cifar(Cifar100Reader, tmp_path)
    with (folder / "train.bin").open("r+b") as file:
        file.truncate(1000)
    message = refusal(f"cifar100:{folder}")
    assert "train.bin has 1,000 bytes, expected 153,700,000 (50,000 records of 3,074" in message


@pytest.mark.parametrize(("name", "label"), [("cifar10", 255), ("cifar10", 10), ("cifar100", 100)])
def test_a_label_that_is_no_class(tmp_path, write_cifar, name, label):
    layout = LAYOUTS[name]
    contents = {layout.train_files[0]: {17: record(layout, label, 0)}}
    folder = write_cifar(layout, tmp_path, contents)
    message = refusal(f"{name}:{folder}")
    expected = f"record 17 has label {label}, expected 0 to {layout.labels.classes - 1}"
    assert f"{layout.train_files[0]}: {expected}" in message


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("inside", [True, False])
def test_the_pickled_version_is_named_and_never_opened(tmp_path, name, inside):
    layout = LAYOUTS[name]
    folder = tmp_path / layout.pickle_folder
    folder.mkdir()
    for file in ("data_batch_1", "test_batch", "train", "test", "batches.meta", "meta"):
        (folder / file).write_bytes(pickle.dumps(Bomb()))
    message = refusal(f"{name}:{folder if inside else tmp_path}")
    assert "has the Python (pickle) version, which can run code and is never read" in message
    assert f"get the binary version, {layout.folder}" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\ndog\n", "holds 2 class names, expected 10"),
        (b"\xff\xfe\x00", "batches.meta.txt is not a text in UTF-8"),
        (b"same\n" * 10, "a class name occurs twice"),
    ],
)
def test_class_names_that_cannot_be(tmp_path, write_cifar, content, message):
    folder = write_cifar(Cifar10Reader, tmp_path)
    (folder / "batches.meta.txt").write_bytes(content)
    assert message in refusal(f"cifar10:{folder}")


@pytest.mark.data
def test_official_cifar10(official_cifar):
    started = time.perf_counter()
    splits = load_data(f"cifar10:{official_cifar}", validation=0.0)
    seconds = time.perf_counter() - started
    train, test = splits.train, splits.get("test")
    assert (len(train), len(test)) == (50_000, 10_000)
    assert torch.bincount(train.labels_N).tolist() == [5_000] * 10
    assert torch.bincount(test.labels_N).tolist() == [1_000] * 10
    assert (train.classes[0], train.classes[5], train.classes[9]) == ("airplane", "dog", "truck")
    assert train.labels_N[:5].tolist() == [6, 9, 9, 4, 1]
    mean, std = train.channel_statistics()
    assert mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-5)
    assert std == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-5)
    assert seconds < 20  # far from it: a guard against a loop in Python


@pytest.mark.data
def test_official_cifar100(official_cifar):
    splits = load_data(f"cifar100:{official_cifar / 'cifar-100-binary'}")
    assert torch.bincount(splits.train.labels_N).tolist() == [450] * 100
    assert torch.bincount(splits.get("validation").labels_N).tolist() == [50] * 100
    assert torch.bincount(splits.get("test").labels_N).tolist() == [100] * 100
    assert (splits.train.classes[0], splits.train.classes[99]) == ("apple", "worm")
    mean, std = load_data(f"cifar100:{official_cifar}", validation=0.0).train.channel_statistics()
    assert mean == pytest.approx((0.5071, 0.4865, 0.4409), abs=5e-5)
    assert std == pytest.approx((0.2673, 0.2564, 0.2762), abs=5e-5)
