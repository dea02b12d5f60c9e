"""Pictures decoded when they are asked for are the pictures decoded at once."""

import os
import signal

import pytest
import torch

from collegium.data import Loader, load_data
from collegium.data.images import lazy as gallery
from collegium.data.images import load as albums
from collegium.data.images.lazy import LazyImages, work_ahead
from collegium.errors import DataError, ResourceError


@pytest.fixture
def folder(tmp_path, write_picture):
    for split, count in (("train", 24), ("val", 6)):
        for seed in range(count):
            path = tmp_path / "pets" / split / "ab"[seed % 2] / f"{seed:02}.png"
            write_picture(path, seed=seed + 100 * (split == "val"))
    return tmp_path / "pets"


@pytest.fixture
def both(folder, monkeypatch):
    """The same training data, decoded and encoded."""
    decoded = load_data(f"folder:{folder}").train
    monkeypatch.setattr(albums, "free_memory", lambda: 0)
    encoded = load_data(f"folder:{folder}").train
    assert isinstance(encoded.images_NDHW, LazyImages)
    return decoded, encoded


def batches(data, workers, seed=0):
    loader = Loader(data, 7, recipe="crop-flip", seed=seed, shuffle=True, workers=workers)
    return list(loader.epoch(3))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_those_of_decoded_data_whatever_the_workers(both, workers):
    for one, other in zip(*(batches(data, workers) for data in both), strict=True):
        assert torch.equal(one.images_BDHW, other.images_BDHW)
        assert torch.equal(one.labels_B, other.labels_B)
        assert torch.equal(one.index_B, other.index_B)


def test_parts_and_statistics_are_those_of_decoded_data(both):
    decoded, encoded = (data.subset([5, 1, 20]) for data in both)
    assert torch.equal(encoded.pixels(torch.arange(3)), decoded.images_NDHW)
    assert both[0].channel_statistics() == both[1].channel_statistics()


def test_statistics_of_very_many_are_those_of_some(both, monkeypatch):
    monkeypatch.setattr("collegium.data.image_data._SAMPLE", 8)
    decoded, encoded = both
    assert encoded.channel_statistics() == decoded.subset(range(0, 24, 3)).channel_statistics()


def test_the_fingerprint_knows_every_file(both, folder, write_picture):
    _, encoded = both
    before = encoded.fingerprint()
    assert load_data(f"folder:{folder}").train.fingerprint() == before
    write_picture(folder / "train" / "b" / "23.png", seed=999)
    assert load_data(f"folder:{folder}").train.fingerprint() != before


def test_of_many_files_the_fingerprint_knows_every_name_and_size_and_some_contents(
    both, folder, monkeypatch
):
    monkeypatch.setattr(gallery, "_DIGESTED", 3)

    def print_of():
        return load_data(f"folder:{folder}").train.fingerprint()

    before, moved = print_of(), folder.with_name("elsewhere")
    folder.rename(moved)
    assert load_data(f"folder:{moved}").train.fingerprint() == before
    moved.rename(folder)
    read, other = (folder / "train" / "a" / f"{place:02}.png" for place in (16, 2))
    content = other.read_bytes()
    other.write_bytes(content + b"more")
    assert print_of() != before
    other.write_bytes(content[:-1] + b"x")
    assert print_of() == before  # what the documentation warns of
    other.rename(other.with_name("03.png"))
    assert print_of() != before
    other.with_name("03.png").rename(other)
    read.write_bytes(read.read_bytes()[:-1] + b"x")
    assert print_of() != before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_breaks_later_is_named(both, folder, workers):
    _, encoded = both
    path = folder / "train" / "b" / "23.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=rf"^{path} cannot be read as an image") as refused:
        batches(encoded, workers)
    assert "\n" not in str(refused.value)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot be read"):
        encoded.fingerprint()


def test_a_worker_that_dies_is_told(both, monkeypatch):
    monkeypatch.setattr(
        gallery._Work, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    )
    with pytest.raises(ResourceError, match=r"a process that decodes images died .* fewer than 2"):
        batches(both[1], 2)


def test_leaving_early_leaves_no_process(both):
    loader = Loader(both[1], 2, workers=2)
    for batch in loader.epoch(0):
        assert len(batch) == 2
        break


@pytest.mark.parametrize("noticed", [ConnectionResetError(104, "reset by peer"), EOFError()])
def test_a_death_is_told_the_same_however_it_is_noticed(monkeypatch, noticed) -> None:
    def broken(loader):
        raise noticed

    monkeypatch.setattr(gallery.DataLoader, "__iter__", broken)
    with pytest.raises(ResourceError, match="a process that decodes images died"):
        list(work_ahead(torch.numel, [torch.arange(2)], 1))
