"""How stored pictures are read, and what the user hears of it."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from collegium.data.images.modes import Alpha
from collegium.data.images.pixel_scale import Scale
from collegium.utils.from_json import ImageSize

T = TypeVar("T")

TELL_EVERY = 10.0
"""Seconds between lines on something long."""


def silent(text: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class ImageOptions:
    """How stored pictures are read.

    Attributes:
        image_size: rows and columns of the result, or one number for both: the largest centred
            part of that shape of each picture is scaled to it (bilinear, antialiased). None keeps
            the size that at least nine in ten pictures of train have, else takes squares of the
            median shorter side of train, at least 32, at most 224.
        scale: black and white of pictures deeper than eight bits; None finds them.
        alpha: what transparency becomes.
        corrupt: whether a picture that cannot be decoded is "fatal", or one to "skip".
        workers: processes that decode many pictures.
        tell: told what takes long.
    """

    image_size: ImageSize = None
    scale: Scale | None = None
    alpha: Alpha = "drop"
    corrupt: Literal["fatal", "skip"] = "fatal"
    workers: int = 0
    tell: Callable[[str], None] = silent

    def told(self, parts: Iterable[T], each: int, total: int, doing: str) -> Iterator[T]:
        """The parts of something, telling every ten seconds how far they are.

        Args:
            parts: of up to `each` pictures.
            each: pictures of a part.
            total: pictures of the whole.
            doing: what is told.
        """
        started = told = time.perf_counter()
        for count, part in enumerate(parts, start=1):
            yield part
            now, done = time.perf_counter(), min(count * each, total)
            if now - told > TELL_EVERY:
                told, rate = now, done / (now - started)
                self.tell(
                    f"{doing} {done:,}/{total:,}  {rate:.0f} images/s  "
                    f"{(total - done) / rate:.0f} s left"
                )
