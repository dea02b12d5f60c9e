"""Small data sets in their official forms, made of noise that can be learned."""

import contextlib
import gzip
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import Bunch

ALL_DIGITS = sklearn.datasets.load_digits
FEW = 600
"""Images that `few_digits` leaves of 1,797."""


def pictures(count: int, shape: tuple[int, ...], classes: int, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures whose brightest quarter says their class, which is the position modulo classes."""
    noise = np.random.default_rng(seed).integers(0, 120, (count, *shape), np.uint8)
    for place in range(count):
        row = (place % classes) * shape[0] // classes
        noise[place, row : row + shape[0] // classes + 1] += 120
    return noise


def idx(values: NDArray[np.uint8]) -> bytes:
    """The bytes of an idx file."""
    head = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.tobytes()


def write_idx(
    folder: Path,
    counts: Mapping[str, int] = {"train": 200, "t10k": 50},
    *,
    mark: str = "-",
    packed: bool = False,
    side: int = 28,
) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """The four files of MNIST, with ten classes in turn; gives what is in them."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {}
    for seed, (part, count) in enumerate(counts.items()):
        images = pictures(count, (side, side), 10, seed)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, values in (("images", images), ("labels", labels)):
            name = f"{part}-{kind}{mark}idx{values.ndim}-ubyte"
            data = idx(values)
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
        content[part] = images, labels
    return content


def write_tiny_imagenet(
    root: Path, wnids: Sequence[str] = ("n01", "n02", "n03"), each: int = 8, val: int = 6
) -> Path:
    """An official folder with few classes; val/ has its classes in turn."""
    folder = root / "tiny-imagenet-200"
    for label, wnid in enumerate(wnids):
        place = folder / "train" / wnid / "images"
        place.mkdir(parents=True)
        whole = pictures(each * len(wnids), (64, 64, 3), len(wnids), seed=label)
        for number in range(each):
            image = Image.fromarray(whole[number * len(wnids) + label])
            image.save(place / f"{wnid}_{number}.JPEG")
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("x.JPEG\t0\t0\t1\t1\n")
    (folder / "val" / "images").mkdir(parents=True)
    lines = []
    for number, pixels in enumerate(pictures(val, (64, 64, 3), len(wnids), seed=99)):
        Image.fromarray(pixels).save(folder / "val" / "images" / f"val_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\t{wnids[number % len(wnids)]}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(wnids) + "\n")
    words = {"n01": "tench, Tinca tinca", "n02": "crane", "n03": "crane", "n99": "other"}
    (folder / "words.txt").write_text("".join(f"{k}\t{v}\n" for k, v in words.items()))
    (folder / "test" / "images").mkdir(parents=True)
    return folder


def write_pictures(folder: Path, images: NDArray[np.uint8], **options: Any) -> list[Path]:
    """Numbered JPEG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{place:04}.jpg" for place in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path, **options)
    return paths


def write_folder(root: Path, classes: Sequence[str] = ("cat", "dog"), each: int = 20) -> Path:
    """train/CLASS and val/CLASS of 32x32 JPEGs."""
    for seed, (split, count) in enumerate((("train", each), ("val", max(1, each // 4)))):
        whole = pictures(count * len(classes), (32, 32, 3), len(classes), seed)
        for label, name in enumerate(classes):
            write_pictures(root / split / name, whole[label :: len(classes)])
    return root


@contextlib.contextmanager
def few_digits() -> Iterator[None]:
    """Let `digits` be its first 600 images, so that a run takes a third of the steps.

    Processes that a test starts still have all 1,797. A test that trains in both, or that needs a
    student that has learned something, asks for the fixture `all_digits`.
    """
    whole = ALL_DIGITS()
    names = whole.target_names
    first = Bunch(images=whole.images[:FEW], target=whole.target[:FEW], target_names=names)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sklearn.datasets, "load_digits", lambda: first)
        yield
