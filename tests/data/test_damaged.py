"""Images that cannot be decoded are counted, named, and skipped or fatal as asked."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from collegium.data import load_data
from collegium.data.images import decode as pictures
from collegium.data.images import load as albums
from collegium.data.images import load as damaged
from collegium.data.images.lazy import LazyImages
from collegium.errors import DataError
from tests.making import write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pets", each=8)


def cut(path, part=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    return path


@pytest.fixture
def holes(folder):
    """Four ways to be damaged: cut, empty, another format, gone."""
    train = folder / "train" / "cat"
    cut(train / "0001.jpg")
    (train / "0003.jpg").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(train / "0004.jpg", "PCX")
    (folder / "val" / "dog" / "0001.jpg").unlink()
    (folder / "val" / "dog" / "0001.jpg").symlink_to(folder / "nowhere")
    return folder


def test_fatal_by_default_with_a_way_out(holes):
    with pytest.raises(DataError, match=r"or leave such images out: --corrupt skip$"):
        load_data(f"folder:{holes}")


@pytest.mark.parametrize("free", [None, 0])  # decoded at once, or left encoded
@pytest.mark.parametrize("many", [10_000, 1])  # in this process, or by workers
def test_skipped_counted_and_named(holes, monkeypatch, free, many):
    monkeypatch.setattr(albums, "free_memory", lambda: free)
    monkeypatch.setattr(damaged, "MANY", many)
    splits = load_data(f"folder:{holes}?corrupt=skip")
    train, validation = splits.train, splits.get("validation")
    assert (len(train), len(validation)) == (13, 3)
    assert train.labels_N.tolist() == [0] * 5 + [1] * 8
    assert train.index_N.tolist() == list(range(13))
    pixels = train.pixels(torch.tensor([1]))[0]
    kept = np.asarray(Image.open(holes / "train" / "cat" / "0002.jpg")).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels, kept)
    (note,) = splits.notes
    assert note.startswith("pets: skipped 4 of 20 images that cannot be decoded: ")
    for name, reason in (("0001", "Truncated"), ("0003", "it has no bytes"), ("0004", "not a PNG")):
        assert f"{holes / 'train' / 'cat' / name}.jpg cannot be read as an image: {reason}" in note
    assert note.endswith("; and 1 more")
    assert "--corrupt" not in note


def test_nothing_is_said_where_all_are_sound(folder):
    assert load_data(f"folder:{folder}?corrupt=skip").notes == ()


def test_nothing_left(folder):
    for path in (folder / "val").glob("*/*.jpg"):
        cut(path)
    with pytest.raises(DataError, match=r"no image of validation can be decoded; .*0001.jpg"):
        load_data(f"folder:{folder}?corrupt=skip")


def test_a_bomb_nobody_looked_at_before_is_refused_when_it_is_decoded(
    folder, monkeypatch, write_picture
):
    monkeypatch.setattr(albums, "free_memory", lambda: 0)
    monkeypatch.setattr(albums, "_HEADERS", 2)
    bomb = write_picture(folder / "train" / "dog" / "0003.jpg", (40, 40))
    train = load_data(f"folder:{folder}", image_size=32).train
    assert isinstance(train.images_NDHW, LazyImages)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1100)
    place = [str(train.images_NDHW.encoded[row].content) for row in range(16)].index(str(bomb))
    for workers in (0, 1):
        with pytest.raises(DataError, match=rf"{bomb} is a decompression bomb"):
            list(train.stream([torch.tensor([place])], workers))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "is a decompression bomb" in pictures.decode_error(train.images_NDHW.encoded[place])


def test_of_very_many_some_headers_say_the_shape(folder, monkeypatch, write_picture):
    monkeypatch.setattr(albums, "_HEADERS", 4)
    write_picture(folder / "train" / "cat" / "0001.jpg", (90, 70))
    train = load_data(f"folder:{folder}").train
    assert train.shape == (3, 32, 32)
    odd = Image.open(folder / "train" / "cat" / "0001.jpg").resize(
        (32, 32), Image.Resampling.BILINEAR, box=(10, 0, 80, 70)
    )
    np.testing.assert_array_equal(train.images_NDHW[1], np.asarray(odd).transpose(2, 0, 1))


def test_many_are_decoded_by_processes_to_the_same_pixels(folder, monkeypatch):
    alone = load_data(f"folder:{folder}")
    monkeypatch.setattr(albums, "MANY", 1)
    monkeypatch.setattr(albums, "_CHUNK", 5)
    monkeypatch.setattr("collegium.data.images.load.NOTIFY_EVERY", 0.0)
    told: list[str] = []
    workers = []
    monkeypatch.setattr(albums, "work_ahead", lambda f, b, w: workers.append(w) or map(f, b))
    together = load_data(f"folder:{folder}", workers=2, tell=told.append)
    assert torch.equal(alone.train.images_NDHW, together.train.images_NDHW)
    assert workers == [2, 2]
    assert "pets: 20 images of 2 classes; reading their sizes" in told
    assert "pets: decoding all to 3x32x32 in memory, 0.0 GB" in told
    assert any(line.startswith("pets train: decoded 10/16  ") for line in told)
