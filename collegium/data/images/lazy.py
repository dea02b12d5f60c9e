"""Images that do not fit in memory: worker processes decode each batch when it is needed.

Each worker decodes whole batches ahead of the step; the pixels do not depend on the number of
workers.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from collegium.data.images.decode import DECODER_VERSION, decode
from collegium.data.images.modes import PLAIN, PixelRule
from collegium.data.images.source import ImageSubset
from collegium.errors import DataError, ResourceError
from collegium.types import MapShape
from collegium.utils.text import first_line

T = TypeVar("T")

AHEAD = 2
"""Batches each worker has ready."""
_DIGESTED = 2048  # images whose bytes are hashed


@dataclass(frozen=True)
class LazyImages:
    """N images of one size, still encoded.

    Attributes:
        encoded: as they are stored.
        size: channels, rows and columns after decoding.
        workers: processes that decode streams by default.
        rule: how depth and transparency become eight bits.
    """

    encoded: ImageSubset = field(repr=False)
    size: MapShape
    workers: int = 0
    rule: PixelRule = PLAIN

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the decoded images."""
        return len(self), *self.size

    def index_select(self, axis: int, positions_M: Int64[Tensor, " M"]) -> "LazyImages":
        """Those at these positions, in this order, as of a tensor whose axis 0 are examples."""
        return replace(self, encoded=self.encoded.subset(positions_M.cpu().numpy()))

    def to(self, device: torch.device | str) -> "LazyImages":
        """Itself: encoded images stay in the memory of the computer."""
        return self

    def decode(self, positions_B: Int64[Tensor, " B"]) -> UInt8[Tensor, "B D H W"]:
        """The pixels of a few, decoded in this process.

        Raises:
            DataError: an image cannot be read any more.
        """
        return decode(self.encoded.subset(positions_B.numpy()), self.size, self.rule)

    def stream(
        self, batches: Sequence[Int64[Tensor, " _"]], workers: int | None = None
    ) -> Iterator[UInt8[Tensor, "_ D H W"]]:
        """The pixels of batch after batch, decoded ahead.

        Args:
            batches: positions.
            workers: processes that decode; 0 decodes in this one, None takes the default.

        Raises:
            DataError: an image cannot be read.
            ResourceError: a worker died.
        """
        return work_ahead(self.decode, batches, self.workers if workers is None else workers)

    def digest(self) -> bytes:
        """SHA-256 over every name and size, and over the bytes of 2,048 evenly spread images."""
        step = -(-len(self) // _DIGESTED)
        some = self.encoded.subset(np.arange(0, len(self), step))
        digest = hashlib.sha256(f"decoder {DECODER_VERSION}\n".encode())
        if rule := self.rule.to_json():
            digest.update(json.dumps(rule).encode())
        digest.update(self.encoded.identity())
        for image in some:
            digest.update(hashlib.sha256(image.read()).digest())
        return digest.digest()


def work_ahead(
    function: Callable[[Tensor], T], batches: Sequence[Tensor], workers: int
) -> Iterator[T]:
    """Results of a function for batch after batch of positions, in order.

    Args:
        function: reads images; may be called in a copy of this process.
        batches: positions.
        workers: processes that work ahead; 0 works in this one.

    Raises:
        DataError: the function raised it.
        ResourceError: a worker died.
    """
    if not workers:
        yield from map(function, batches)
        return
    loader = DataLoader(
        _Work(function),
        batch_size=None,  # the positions are batches already
        # Lists are sent in the message itself, tensors through files opened at both ends.
        sampler=[positions_B.tolist() for positions_B in batches],
        num_workers=min(workers, len(batches)),
        prefetch_factor=AHEAD,
    )
    try:
        for found in loader:
            if isinstance(found, DataError):
                raise found
            yield found
    except (RuntimeError, ConnectionError, EOFError) as error:  # however torch notices the death
        raise ResourceError(
            f"a process that decodes images died ({first_line(error)}); "
            f"with less memory each, try fewer than {workers} --workers"
        ) from error


@dataclass(frozen=True)
class _Work(Dataset[T | DataError], Generic[T]):
    function: Callable[[Tensor], T]

    def __getitem__(self, positions: list[int]) -> T | DataError:
        try:
            return self.function(torch.tensor(positions))
        except DataError as error:
            return error  # to be raised in the main process, without the traceback of the worker
