"""One split of a data set: pixels, labels and where each example came from."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from collegium.data.augment import find_recipe
from collegium.data.class_names import check_numbers
from collegium.data.images.lazy import LazyImages
from collegium.errors import DataError
from collegium.types import MapShape

_CHUNK_PIXELS = 1 << 19  # small enough for the processor's cache in float64
_SAMPLE = 2048  # encoded images whose pixels represent all


@dataclass(frozen=True)
class Origin:
    """The data set that examples were taken from, which identifies parts of it.

    Attributes:
        fingerprint: of the whole.
        count: examples of the whole.
        mean: of each channel of the whole, of pixels in 0..1.
        std: of each channel of the whole.
    """

    fingerprint: str
    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class ImageData:
    """N labelled images of one size, checked on construction.

    Attributes:
        images_NDHW: uint8 pixels 0..255, or float32 pixels in 0..1; 1 or 3 channels, first. Or
            encoded images, if memory cannot hold the pixels.
        labels_N: int64 classes, 0 to C-1.
        index_N: int64 positions in the official split the examples came from.
        classes: the C class names; label i is `classes[i]`.
        name: what the data are called, like "cifar10".
        augment: the view recipe that suits training on them, a key of `RECIPES`.
        origin: the data set these were taken from, with the same `index_N`; None for all of it.

    Raises:
        DataError: the parts do not fit each other or their ranges; the message says which.
        UnknownNameError: `augment` is no view recipe.
    """

    # Without jaxtyping: the checks below raise errors meant for users.
    images_NDHW: Tensor | LazyImages = field(repr=False)
    labels_N: Tensor = field(repr=False)
    index_N: Tensor = field(repr=False)
    classes: tuple[str, ...]
    name: str
    augment: str
    origin: Origin | None = None

    def __post_init__(self) -> None:
        find_recipe(self.augment)
        self._check_images()
        self._check_labels()

    @classmethod
    def numbered(
        cls,
        images_NDHW: Tensor | LazyImages,
        labels_N: Tensor,
        classes: tuple[str, ...],
        name: str,
        augment: str,
    ) -> "ImageData":
        """A whole split, whose index is the position."""
        index_N = torch.arange(len(labels_N))
        return cls(images_NDHW, labels_N, index_N, classes, name, augment)

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def shape(self) -> MapShape:
        """Channels, rows and columns of every image."""
        channels, rows, columns = self.images_NDHW.shape[1:]
        return channels, rows, columns

    def stream(
        self, batches: Sequence[Int64[Tensor, " _"]], workers: int | None = None
    ) -> Iterator[Shaped[Tensor, "_ D H W"]]:
        """The pixels of batch after batch, on the device of the labels.

        Args:
            batches: positions.
            workers: processes that decode encoded images ahead; None for the default number.
        """
        images = self.images_NDHW
        if isinstance(images, Tensor):
            return (images.index_select(0, positions_B) for positions_B in batches)
        decoded = images.stream([positions_B.cpu() for positions_B in batches], workers)
        return (pixels.to(self.labels_N.device) for pixels in decoded)

    def pixels(self, positions_B: Int64[Tensor, " B"]) -> Shaped[Tensor, "B D H W"]:
        """The pixels at these positions."""
        return next(self.stream([positions_B], 0))

    def subset(self, positions: Sequence[int] | NDArray[Any] | Tensor) -> "ImageData":
        """The examples at these positions, in this order; they keep their `index_N`.

        Args:
            positions: integers from 0 to N-1, or N truth values.

        Raises:
            DataError: nothing is chosen.
            IndexError: there is no such position.
        """
        # index_select copies whole images at once, several times faster than indexing.
        chosen = torch.as_tensor(positions, device=self.labels_N.device)
        chosen_M = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen.long()
        return self._each(lambda part: part.index_select(0, chosen_M))

    def to(self, device: torch.device | str) -> "ImageData":
        """The same data on a device; tensors that are there already are not copied."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Any], Any]) -> "ImageData":
        """The data with images, labels and index changed alike."""
        names = ("images_NDHW", "labels_N", "index_N")
        return replace(self, **{name: change(getattr(self, name)) for name in names})

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over pixels, labels, index, classes, pixel type and shape.

        Two data sets of the same fingerprint give the same batches; name and recipe are left out.
        For encoded images the files take the place of the pixels.
        """
        images = self.images_NDHW
        kind = str(images.dtype) if isinstance(images, Tensor) else "encoded"
        digest = hashlib.sha256(json.dumps([kind, list(images.shape), self.classes]).encode())
        digest.update(_bytes(images) if isinstance(images, Tensor) else images.digest())
        for tensor in (self.labels_N, self.index_N):
            digest.update(_bytes(tensor))
        return digest.hexdigest()

    @cached_property
    def whole(self) -> Origin:
        """What these examples are a part of: their origin, or themselves."""
        if self.origin is not None:
            return self.origin
        return Origin(self.fingerprint(), len(self), *self.channel_statistics())

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel's pixels in 0..1, over all N·H·W of them.

        Of encoded images 2,048 represent all, evenly spread over the data.
        """
        images_NDHW = self.sample()
        scale = 1.0 if images_NDHW.is_floating_point() else 255.0
        mean_D = _pixel_mean(images_NDHW, lambda pixels_DP: pixels_DP)
        centre_D1 = mean_D[:, None]
        variance_D = _pixel_mean(images_NDHW, lambda pixels_DP: (pixels_DP - centre_D1).square())
        return tuple((mean_D / scale).tolist()), tuple((variance_D.sqrt() / scale).tolist())

    def sample(self) -> Tensor:
        """All pixels; of encoded images those of 2,048, evenly spread."""
        if isinstance(self.images_NDHW, Tensor):
            return self.images_NDHW
        step = -(-len(self) // _SAMPLE)
        return self.images_NDHW.decode(torch.arange(0, len(self), step))

    def _check_images(self) -> None:
        images = self.images_NDHW
        if len(images.shape) != 4 or images.shape[1] not in (1, 3):
            expected = "expected examples, channels (1 or 3), rows, columns"
            raise self._error(f"images have the shape {tuple(images.shape)}; {expected}")
        if 0 in images.shape:
            raise self._error(f"no pixels in images of the shape {tuple(images.shape)}")
        if not isinstance(images, Tensor):
            return
        if images.dtype not in (torch.uint8, torch.float32):
            given = _dtype_name(images)
            raise self._error(f"pixels are {given}; give uint8 in 0..255 or float in 0..1")
        if images.is_floating_point():
            low, high = (bound.item() for bound in images.aminmax())
            if not (low >= 0 and high <= 1):  # written so that a NaN fails
                raise self._error(
                    f"float pixels run from {low:.4g} to {high:.4g}, expected 0 to 1: give raw "
                    "pixels (uint8 in 0..255, or float in 0..1); normalisation belongs to the model"
                )

    def _check_labels(self) -> None:
        count = len(self.images_NDHW)
        for what, tensor in (("labels", self.labels_N), ("index", self.index_N)):
            if tensor.shape != (count,):
                raise self._error(f"{count} images, but {what} of the shape {tuple(tensor.shape)}")
            if tensor.dtype != torch.int64:
                raise self._error(f"{what} are {_dtype_name(tensor)}; expected int64")
        if len(set(self.classes)) != len(self.classes):
            raise self._error("a class name occurs twice")
        check_numbers(self.labels_N, self.classes, self.name)

    def _error(self, message: str) -> DataError:
        return DataError(f"{self.name}: {message}")


def _pixel_mean(images_NDHW: Tensor, function: Callable[[Tensor], Tensor]) -> Float64[Tensor, " D"]:
    """Mean over a channel's pixels, in float64; sums of whole numbers are exact there."""
    count, channels, rows, columns = images_NDHW.shape
    total_D = torch.zeros(channels, dtype=torch.float64, device=images_NDHW.device)
    for chunk in images_NDHW.split(max(1, _CHUNK_PIXELS // images_NDHW[0].numel())):
        total_D += function(chunk.transpose(0, 1).flatten(1).double()).sum(1)
    return total_D / (count * rows * columns)


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.cpu().contiguous().numpy().data


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
