"""Labelled pictures of all splits: decoded into memory where they fit, else left for later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from collegium.data.gallery import Gallery
from collegium.data.image_data import ImageData
from collegium.data.pictures import (
    Picture,
    common_shape,
    decode,
    free_memory,
    read_headers,
)
from collegium.data.splits import Splits
from collegium.types import MapShape


@dataclass(frozen=True)
class Album:
    """The pictures of one split with their labels, not yet decoded."""

    pictures: Sequence[Picture]
    labels: Sequence[int]


def load_albums(
    albums: Mapping[str, Album],
    *,
    classes: tuple[str, ...],
    name: str,
    augment: str,
    image_size: int | None,
) -> Splits:
    """All splits, at one size.

    They are decoded at once, unless that would fill more than half of the free memory; then each
    batch is decoded when it is asked for.

    Args:
        albums: "train" and perhaps "validation" and "test".
        classes: the class names.
        name: what the data are called.
        augment: the view recipe that suits training.
        image_size: rows and columns of the result: the largest centred square of each picture
            is scaled to it (bilinear, antialiased). None keeps pictures that all have one size
            as they are, else takes the median shorter side of train, at least 32, at most 224.

    Returns:
        uint8 images, RGB unless every picture is grey.

    Raises:
        DataError: a picture cannot be read or is a decompression bomb.
    """
    headers = {split: read_headers(album.pictures) for split, album in albums.items()}
    shape = common_shape(headers, image_size)
    fits = _fits(sum(map(len, headers.values())), shape)

    def load(album: Album) -> ImageData:
        pictures = album.pictures
        images = decode(pictures, shape) if fits else Gallery(pictures, shape)
        labels_N = torch.tensor(album.labels, dtype=torch.int64)
        return ImageData(images, labels_N, torch.arange(len(labels_N)), classes, name, augment)

    found = {split: load(album) for split, album in albums.items()}
    return Splits(found["train"], found.get("validation"), found.get("test"))


def _fits(count: int, shape: MapShape) -> bool:
    free = free_memory()
    channels, rows, columns = shape
    return free is None or count * channels * rows * columns <= free // 2
