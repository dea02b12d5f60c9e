"""Batches of views in an order that is a pure function of (seed, epoch)."""

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor

from collegium.data.draws import Stream, fold
from collegium.data.image_data import ImageData
from collegium.data.views import find_recipe, make_views, view_of
from collegium.errors import DataError, RequestError
from collegium.types import Batch

_LEAST_FOR_STATISTICS = 2  # BatchNorm cannot take a variance of one example


class Loader:
    """Gives the data out, epoch after epoch, to one of `world` processes.

    A global batch has `batch_size` examples over all processes; process `rank` takes every
    `world`-th of them, so that all processes together see what one alone would. No global random
    state is read or changed.

    A shuffled loader trains: every process gets as many batches as the others, and a last batch
    too small for batch statistics joins the one before. One that does not shuffle evaluates: the
    order of the data, view 0, every example exactly once, and nothing for a process that has no
    share in a short batch.

    Attributes:
        data: the examples, on the device.
    """

    def __init__(
        self,
        data: ImageData,
        batch_size: int,
        *,
        recipe: str = "none",
        views: int = 0,
        seed: int = 0,
        shuffle: bool = False,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        """Moves the data to the device, once.

        Args:
            data: what to give out.
            batch_size: examples of a global batch, at least 1.
            recipe: a key of `RECIPES`.
            views: how many views an example has; 0 for a new one in every epoch.
            seed: what order and views are drawn from.
            shuffle: a new order and, if the recipe draws, other views in every epoch.
            rank: which of the processes this is, from 0.
            world: number of processes.
            device: where batches are made and stay.

        Raises:
            DataError: a batch size below 1, or larger than the data of a shuffled loader.
            RequestError: no such process, or fewer examples in a shuffled batch than processes.
            UnknownNameError: no recipe is called that.
        """
        find_recipe(recipe)
        _check(data, batch_size, shuffle, rank, world)
        self.data = data.to(device)
        self._batch_size, self._shuffle = batch_size, shuffle
        self._recipe, self._views, self._seed = recipe, views, seed
        self._rank, self._world = rank, world

    def __len__(self) -> int:
        """Number of batches this process gets in an epoch."""
        return len(self._bounds())

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, 0 for the first; asked again, the same again."""
        order_N = self._order(epoch)
        for start, stop in self._bounds():
            yield self._batch(order_N[start : stop : self._world], epoch)

    def _batch(self, positions_B: Int64[Tensor, " B"], epoch: int) -> Batch:
        index_B = self.data.index_N[positions_B]
        view_B = self._view(index_B, epoch)
        images = self.data.images_NDHW.index_select(0, positions_B)
        views_BDHW = make_views(images, index_B, view_B, self._recipe, self._seed)
        return Batch(views_BDHW, self.data.labels_N[positions_B], index_B, view_B)

    def _view(self, index_B: Int64[Tensor, " B"], epoch: int) -> Int64[Tensor, " B"]:
        # A recipe that changes nothing has one view: naming others would only miss stored answers.
        if not self._shuffle or self._recipe == "none":
            return torch.zeros_like(index_B)
        return view_of(index_B, epoch, self._views, self._seed)

    def _order(self, epoch: int) -> Int64[Tensor, " N"]:
        device = self.data.labels_N.device
        if not self._shuffle:
            return torch.arange(len(self.data), device=device)
        generator = torch.Generator().manual_seed(fold(self._seed, Stream.SHUFFLE, epoch))
        return torch.randperm(len(self.data), generator=generator).to(device)

    def _bounds(self) -> list[tuple[int, int]]:
        """First position of this process and end of each global batch it has a share in."""
        count = len(self.data)
        starts = list(range(0, count, self._batch_size))
        if self._shuffle and len(starts) > 1 and self._is_too_small(count - starts[-1]):
            starts.pop()
        stops = [*starts[1:], count]
        pairs = ((start + self._rank, stop) for start, stop in zip(starts, stops, strict=True))
        return [(first, stop) for first, stop in pairs if first < stop]

    def _is_too_small(self, tail: int) -> bool:
        return tail < self._batch_size and tail // self._world < _LEAST_FOR_STATISTICS


def _check(data: ImageData, batch_size: int, shuffle: bool, rank: int, world: int) -> None:
    if batch_size < 1:
        raise DataError(f"batch size is {batch_size}; give at least 1")
    if not 0 <= rank < world:
        raise RequestError(f"process {rank} of {world} cannot be; ranks run from 0 to {world - 1}")
    if shuffle and batch_size > len(data):
        raise DataError(
            f"batch size {batch_size} is larger than the {len(data)} training examples of "
            f"{data.name}; give {len(data)} or less"
        )
    if shuffle and batch_size < world:
        raise RequestError(
            f"batch size {batch_size} leaves nothing for some of {world} processes; give at "
            f"least {world}, better {_LEAST_FOR_STATISTICS * world}"
        )
