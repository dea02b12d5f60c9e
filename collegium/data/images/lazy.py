"""Pictures that are decoded when they are asked for, by processes of their own.

For what does not fit in memory. Each worker decodes whole batches ahead of the step; the pixels
are the same whatever the number of workers.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from collegium.data.images.decode import DECODER_VERSION, decode
from collegium.data.images.files import Pictures
from collegium.data.images.modes import PLAIN, PixelRule
from collegium.errors import DataError, ResourceError
from collegium.types import MapShape

T = TypeVar("T")

AHEAD = 2
"""Batches each worker has ready."""
_DIGESTED = 2048  # pictures whose bytes stand for those of all


@dataclass(frozen=True)
class LazyImages:
    """N pictures of one size, still encoded.

    Attributes:
        pictures: as they are stored.
        size: channels, rows and columns they are decoded to.
        workers: processes that decode streams, where no other number is asked for.
        rule: how depth and transparency become eight bits.
    """

    pictures: Pictures = field(repr=False)
    size: MapShape
    workers: int = 0
    rule: PixelRule = PLAIN

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What the decoded pictures' would be."""
        return len(self), *self.size

    def subset(self, positions_M: Int64[Tensor, " M"]) -> "LazyImages":
        """Those at these positions, in this order."""
        return replace(self, pictures=self.pictures.subset(positions_M.cpu().numpy()))

    def decode(self, positions_B: Int64[Tensor, " B"]) -> UInt8[Tensor, "B D H W"]:
        """The pixels of a few, decoded in this process.

        Raises:
            DataError: one cannot be read any more.
        """
        return decode(self.pictures.subset(positions_B.numpy()), self.size, self.rule)

    def stream(
        self, batches: Sequence[Int64[Tensor, " _"]], workers: int | None = None
    ) -> Iterator[UInt8[Tensor, "_ D H W"]]:
        """The pixels of batch after batch, decoded ahead.

        Args:
            batches: positions.
            workers: processes that decode; 0 decodes in this one, None takes the usual number.

        Raises:
            DataError: a picture cannot be read, or a worker died.
        """
        return work_ahead(self.decode, batches, self.workers if workers is None else workers)

    def digest(self) -> bytes:
        """SHA-256 over every name and size, and over the bytes of 2,048 spread over the whole."""
        step = -(-len(self) // _DIGESTED)
        some = self.pictures.subset(np.arange(0, len(self), step))
        digest = hashlib.sha256(f"decoder {DECODER_VERSION}\n".encode())
        if said := self.rule.to_json():
            digest.update(json.dumps(said).encode())
        digest.update(self.pictures.identity())
        for place in range(len(some)):
            digest.update(hashlib.sha256(_stored(some, place)).digest())
        return digest.digest()


def work_ahead(
    function: Callable[[Tensor], T], batches: Sequence[Tensor], workers: int
) -> Iterator[T]:
    """What the function makes of batch after batch of positions, in order.

    Args:
        function: reads pictures; may be called in a copy of this process.
        batches: positions.
        workers: processes that work ahead; 0 works in this one.

    Raises:
        DataError: the function does.
        ResourceError: a worker died.
    """
    if not workers:
        yield from map(function, batches)
        return
    loader = DataLoader(
        _Work(function),
        batch_size=None,  # whoever works gets whole batches
        # Lists travel in the message itself, tensors as files that are opened at both ends.
        sampler=[positions_B.tolist() for positions_B in batches],
        num_workers=min(workers, len(batches)),
        prefetch_factor=AHEAD,
    )
    try:
        for found in loader:
            if isinstance(found, _Failure):
                raise DataError(found.message)
            yield found
    except (RuntimeError, ConnectionError, EOFError) as error:  # as the death is noticed
        raise ResourceError(
            f"a process that decodes images died ({str(error).partition(chr(10))[0]}); "
            f"with less memory each, try fewer than {workers} --workers"
        ) from error


@dataclass(frozen=True)
class _Failure:
    message: str


@dataclass(frozen=True)
class _Work(Dataset[T | _Failure], Generic[T]):
    function: Callable[[Tensor], T]

    def __getitem__(self, positions: list[int]) -> T | _Failure:
        try:
            return self.function(torch.tensor(positions))
        except DataError as error:
            # To be raised where the user sees it, without a stranger's words.
            return _Failure(str(error))


def _stored(pictures: Pictures, place: int) -> bytes:
    picture = pictures[place]
    try:
        content = picture.content
        return content.read_bytes() if isinstance(content, Path) else content
    except OSError as error:
        raise DataError(f"{picture.name} cannot be read: {error}") from error
