"""Labelled images of all splits: decoded into memory if they fit, else batch by batch later."""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from collegium.data.image_data import ImageData
from collegium.data.images.decode import MANY, common_shape, decode_error, free_memory
from collegium.data.images.inspect import crop_notes, find_rule, inspect_encoded, refuse_blank
from collegium.data.images.lazy import LazyImages, work_ahead
from collegium.data.images.modes import PLAIN, PixelRule
from collegium.data.images.source import AbstractImageSource, ImageSubset
from collegium.data.splits import Splits
from collegium.errors import DataError
from collegium.types import MapShape
from collegium.utils.from_json import ImageSize

T = TypeVar("T")

NOTIFY_EVERY = 10.0
"""Seconds between lines on work that takes long."""
_HEADERS = 20_000  # opening a million files takes minutes
_CHUNK = 256
_NAMED = 3


def silent(text: str) -> None:
    """Drop a message."""


@dataclass(frozen=True)
class ImageOptions:
    """How encoded images are read.

    Attributes:
        image_size: rows and columns of the result, or one number for both: the largest centred
            part of that shape of each image is scaled to it (bilinear, antialiased). None keeps
            the size of at least nine in ten training images, else takes squares of the
            median shorter side of train, at least 32, at most 224.
        rule: black and white of images deeper than eight bits, whose scale None is found; and what
            transparency becomes.
        corrupt: whether an image that cannot be decoded is "fatal", or one to "skip".
        workers: processes that decode many images.
        notify: called with a line on work that takes long.
    """

    image_size: ImageSize = None
    rule: PixelRule = PLAIN
    corrupt: Literal["fatal", "skip"] = "fatal"
    workers: int = 0
    notify: Callable[[str], None] = silent

    def in_chunks(self, work: Callable[[Tensor], T], count: int, doing: str) -> Iterator[T]:
        """The results of work on chunk after chunk of many images; many are read by processes.

        Every ten seconds a line says how many are done.

        Args:
            work: called with the positions of a chunk.
            count: of all images.
            doing: how the line begins.
        """
        chunks = torch.arange(count).split(_CHUNK)
        started = notified = time.perf_counter()
        parts = work_ahead(work, chunks, self.workers if count >= MANY else 0)
        for number, part in enumerate(parts, start=1):
            yield part
            now, done = time.perf_counter(), min(number * _CHUNK, count)
            if now - notified > NOTIFY_EVERY:
                notified, rate = now, done / (now - started)
                self.notify(
                    f"{doing} {done:,}/{count:,}  {rate:.0f} images/s  "
                    f"{(count - done) / rate:.0f} s left"
                )


@dataclass(frozen=True)
class EncodedSplit:
    """The images of one split with their labels, not yet decoded."""

    images: ImageSubset
    label_N: Int64[np.ndarray, " N"]

    @classmethod
    def all_of(
        cls, source: AbstractImageSource, label_N: Int64[np.ndarray, " N"]
    ) -> "EncodedSplit":
        """Every image of a source."""
        return cls(ImageSubset(source, np.arange(len(source))), label_N)

    def __len__(self) -> int:
        return len(self.label_N)

    def spread(self) -> ImageSubset:
        """All images; of more than 20,000 at most that many, evenly spread."""
        step = -(-len(self) // _HEADERS)
        return self.images.subset(np.arange(0, len(self), step))


def load_images(
    encoded: Mapping[str, EncodedSplit],
    *,
    classes: tuple[str, ...],
    name: str,
    image_options: ImageOptions,
) -> Splits:
    """All splits, at one size.

    They are decoded at once, unless that would fill more than half of the free memory; then each
    batch is decoded when it is needed. In a split of more than 20,000 images, that many of them,
    evenly spread, decide the size and the number of channels.

    Args:
        encoded: "train" and perhaps "validation" and "test".
        classes: the class names.
        name: of the data, in messages and records.
        image_options: size, and what to do with damaged images.

    Returns:
        uint8 images, RGB unless every image is grey. The notes list what was skipped, guessed or
        cut.

    Raises:
        DataError: an image cannot be read or is a decompression bomb, and that is fatal; no scale
            suits the pixels; all images are blank.
    """
    notify = image_options.notify if sum(map(len, encoded.values())) >= MANY else silent
    image_options = replace(image_options, notify=notify)
    encoded, notes = _decodable(encoded, name, image_options)
    count = sum(map(len, encoded.values()))
    notify(f"{name}: {count:,} images of {len(classes):,} classes; reading their sizes")
    inspected = {split: inspect_encoded(part.spread()) for split, part in encoded.items()}
    headers = {split: found.headers for split, found in inspected.items()}
    shape = common_shape(headers, image_options.image_size)
    rule, rule_notes = find_rule(inspected, name, image_options.rule)
    notes += rule_notes
    notes += crop_notes(inspected, shape, name) if image_options.image_size is None else []
    free = free_memory()
    fits = free is None or count * math.prod(shape) <= free // 2
    notify(f"{name}: {_plan(count, shape, fits)}")
    splits = {}
    for split, part in encoded.items():
        lazy = LazyImages(part.images, shape, image_options.workers, rule)
        images = _decoded(lazy, f"{name} {split}", image_options) if fits else lazy
        labels_N = torch.from_numpy(part.label_N)
        splits[split] = ImageData.numbered(images, labels_N, classes, name, "crop-flip")
    notes += refuse_blank({split: data.sample() for split, data in splits.items()}, name)
    return Splits.of(splits, notes, rule)


def _decodable(
    encoded: Mapping[str, EncodedSplit], name: str, image_options: ImageOptions
) -> tuple[Mapping[str, EncodedSplit], list[str]]:
    """The splits without images that cannot be decoded, if those are to be skipped; and a note.

    Raises:
        DataError: no image of a split can be decoded.
    """
    if image_options.corrupt == "fatal":
        return encoded, []
    kept, errors = {}, []
    for split, part in encoded.items():
        check = functools.partial(_errors_at, part.images)
        chunks = image_options.in_chunks(check, len(part), f"{name} {split}: checked")
        found = list(itertools.chain.from_iterable(chunks))
        good_N = np.array([not error for error in found], bool)
        errors += [error for error in found if error]
        if not good_N.any():
            raise DataError(f"{name}: no image of {split} can be decoded; {errors[-1]}")
        kept[split] = EncodedSplit(part.images.subset(good_N), part.label_N[good_N])
    total = sum(map(len, encoded.values()))
    return kept, [_skip_note(name, errors, total)] if errors else []


def _errors_at(images: ImageSubset, positions_B: Tensor) -> list[str]:
    return [decode_error(image) for image in images.subset(positions_B.numpy())]


def _skip_note(name: str, errors: Sequence[str], total: int) -> str:
    rest = len(errors) - _NAMED
    more = f"; and {rest:,} more" if rest > 0 else ""
    return (
        f"{name}: skipped {len(errors):,} of {total:,} images that cannot be decoded: "
        f"{'; '.join(errors[:_NAMED])}{more}"
    )


def _plan(count: int, shape: MapShape, fits: bool) -> str:
    size, need = "x".join(map(str, shape)), count * math.prod(shape) / 1e9
    if fits:
        return f"decoding all to {size} in memory, {need:.1f} GB"
    return f"{need:.0f} GB at {size} are too many for memory: worker processes decode each batch"


def _decoded(lazy: LazyImages, name: str, image_options: ImageOptions) -> Tensor:
    """All pixels."""
    images_NDHW = torch.empty(lazy.shape, dtype=torch.uint8)
    parts = image_options.in_chunks(lazy.decode, len(lazy), f"{name}: decoded")
    for chunk_BDHW, pixels_BDHW in zip(images_NDHW.split(_CHUNK), parts, strict=True):
        chunk_BDHW.copy_(pixels_BDHW)
    return images_NDHW
