"""Pictures that are decoded when they are asked for, by processes of their own.

For what does not fit in memory. Each worker decodes whole batches ahead of the step; the pixels
are the same whatever the number of workers.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from collegium.data.pictures import Picture, decode, thread_count
from collegium.errors import DataError, ResourceError
from collegium.types import MapShape

AHEAD = 2
"""Batches each worker has ready."""


@dataclass(frozen=True)
class Gallery:
    """N pictures of one size, still encoded.

    Attributes:
        pictures: as they are stored.
        size: channels, rows and columns they are decoded to.
    """

    pictures: Sequence[Picture] = field(repr=False)
    size: MapShape

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What the decoded pictures' would be."""
        return len(self), *self.size

    def subset(self, positions_M: Int64[Tensor, " M"]) -> "Gallery":
        """Those at these positions, in this order."""
        return replace(self, pictures=[self.pictures[place] for place in positions_M.tolist()])

    def decode(self, positions_B: Int64[Tensor, " B"]) -> UInt8[Tensor, "B D H W"]:
        """The pixels of a few, decoded in this process.

        Raises:
            DataError: one cannot be read any more.
        """
        return decode([self.pictures[place] for place in positions_B.tolist()], self.size)

    def stream(
        self, batches: Sequence[Int64[Tensor, " _"]], workers: int
    ) -> Iterator[UInt8[Tensor, "_ D H W"]]:
        """The pixels of batch after batch, decoded ahead.

        Args:
            batches: positions.
            workers: processes that decode; 0 decodes in this one.

        Raises:
            DataError: a picture cannot be read, or a worker died.
        """
        if not workers:
            yield from map(self.decode, batches)
            return
        loader = DataLoader(
            _Decoding(self),
            batch_size=None,  # whoever decodes gets whole batches
            sampler=batches,
            num_workers=min(workers, len(batches)),
            prefetch_factor=AHEAD,
            generator=torch.Generator(),  # without one it would draw from the global one
        )
        try:
            for images in loader:
                if isinstance(images, str):
                    raise DataError(images)
                yield images
        except RuntimeError as error:
            raise ResourceError(
                f"a process that decodes images died ({str(error).partition(chr(10))[0]}); "
                f"with less memory each, try fewer than {workers} --workers"
            ) from error

    def digest(self) -> bytes:
        """SHA-256 over what is stored, picture by picture."""
        with ThreadPoolExecutor(thread_count()) as pool:
            return hashlib.sha256(b"".join(pool.map(_digest_one, self.pictures))).digest()


@dataclass(frozen=True)
class _Decoding(Dataset[Tensor | str]):
    gallery: Gallery

    def __getitem__(self, positions_B: Tensor) -> Tensor | str:
        try:
            return self.gallery.decode(positions_B)
        except (
            DataError
        ) as error:  # to be raised where the user sees it, without a stranger's words
            return str(error)


def _digest_one(picture: Picture) -> bytes:
    content = picture.content
    try:
        stored = content.read_bytes() if isinstance(content, Path) else content
    except OSError as error:
        raise DataError(f"{picture.name} cannot be read: {error}") from error
    return hashlib.sha256(stored).digest()
