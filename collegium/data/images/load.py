"""Labelled pictures of all splits: decoded into memory where they fit, else left for later."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from collegium.data.image_data import ImageData
from collegium.data.images.corrupt import undamaged
from collegium.data.images.decode import (
    MANY,
    common_shape,
    free_memory,
    read_headers,
    read_looks,
)
from collegium.data.images.files import Pictures
from collegium.data.images.inspect import Inspected, find_rule, refuse_blank, sizes_told
from collegium.data.images.lazy import LazyImages
from collegium.data.images.options import ImageOptions, silent
from collegium.data.splits import Splits
from collegium.types import MapShape

_HEADERS = 20_000  # opening a million files takes minutes
_CHUNK = 256


@dataclass(frozen=True)
class EncodedSplit:
    """The pictures of one split with their labels, not yet decoded."""

    pictures: Pictures
    label_N: Int64[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.label_N)


def load_images(
    albums: Mapping[str, EncodedSplit],
    *,
    classes: tuple[str, ...],
    name: str,
    augment: str,
    image_options: ImageOptions,
) -> Splits:
    """All splits, at one size.

    They are decoded at once, unless that would fill more than half of the free memory; then each
    batch is decoded when it is asked for. Of more than 20,000 pictures of a split so many, evenly
    spread, say which size and how many channels suit all.

    Args:
        albums: "train" and perhaps "validation" and "test".
        classes: the class names.
        name: what the data are called.
        augment: the view recipe that suits training.
        image_options: size, and what becomes of damaged pictures.

    Returns:
        uint8 images, RGB unless every picture is grey. What was skipped, guessed or cut is in the
        notes.

    Raises:
        DataError: a picture cannot be read or is a decompression bomb, and that is fatal; their
            numbers have no sensible reading; there is nothing to see in them.
    """
    tell = image_options.tell if sum(map(len, albums.values())) >= MANY else silent
    image_options = replace(image_options, tell=tell)
    albums, notes = _sound(albums, name, image_options)
    count = sum(map(len, albums.values()))
    tell(f"{name}: {count:,} images of {len(classes):,} classes; looking at their sizes")
    looked = {split: _look(album.pictures) for split, album in albums.items()}
    shape = common_shape(
        {s: found.headers for s, found in looked.items()}, image_options.image_size
    )
    rule, said = find_rule(looked, name, image_options)
    said += sizes_told(looked, shape, name) if image_options.image_size is None else []
    fits = _fits(count * math.prod(shape))
    tell(f"{name}: {_plan(count, shape, fits)}")
    found = {}
    for split, album in albums.items():
        gallery = LazyImages(album.pictures, shape, image_options.workers, rule)
        images = _decoded(gallery, f"{name} {split}", image_options) if fits else gallery
        labels_N = torch.from_numpy(album.label_N)
        index_N = torch.arange(len(labels_N))
        found[split] = ImageData(images, labels_N, index_N, classes, name, augment)
    said += refuse_blank({split: data.sample() for split, data in found.items()}, name)
    notes = (*notes, *said)
    return Splits(found["train"], found.get("validation"), found.get("test"), notes, rule)


def _sound(
    albums: Mapping[str, EncodedSplit], name: str, image_options: ImageOptions
) -> tuple[Mapping[str, EncodedSplit], tuple[str, ...]]:
    if image_options.corrupt == "fatal":
        return albums, ()
    kept, notes = undamaged({split: a.pictures for split, a in albums.items()}, name, image_options)
    return {
        split: EncodedSplit(album.pictures.subset(kept[split]), album.label_N[kept[split]])
        for split, album in albums.items()
    }, notes


def _look(pictures: Pictures) -> Inspected:
    step = -(-len(pictures) // _HEADERS)
    some = pictures.subset(np.arange(0, len(pictures), step))
    headers = read_headers(some)
    return Inspected(headers, read_looks(some, headers), lambda at: some[at].name)


def _fits(need: int) -> bool:
    free = free_memory()
    return free is None or need <= free // 2


def _plan(count: int, shape: MapShape, fits: bool) -> str:
    size, need = "x".join(map(str, shape)), count * math.prod(shape) / 1e9
    if fits:
        return f"decoding all to {size} in memory, {need:.1f} GB"
    return f"{need:.0f} GB at {size} are too many for memory: worker processes decode each batch"


def _decoded(gallery: LazyImages, name: str, image_options: ImageOptions) -> Tensor:
    """All pixels: of many pictures, by several processes."""
    everything = torch.arange(len(gallery))
    if len(gallery) < MANY:
        return gallery.decode(everything)
    images_NDHW = torch.empty(gallery.shape, dtype=torch.uint8)
    batches = everything.split(_CHUNK)
    told = image_options.told(gallery.stream(batches), _CHUNK, len(gallery), f"{name}: decoded")
    for positions_B, pixels in zip(batches, told, strict=True):
        images_NDHW[positions_B[0] : positions_B[0] + len(pixels)] = pixels
    return images_NDHW
