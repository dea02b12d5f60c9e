"""Batches of views in an order that is a pure function of (seed, epoch)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from collegium.data.augment import find_recipe, make_views
from collegium.data.image_data import ImageData
from collegium.data.rng import Stream, fold
from collegium.errors import DataError, RequestError
from collegium.types import Batch

_LEAST_FOR_STATISTICS = 2  # BatchNorm cannot take a variance of one example


@dataclass(frozen=True)
class Views:
    """Every view of every example of some data, by name.

    Attributes:
        data: the examples; no index twice with other pixels.
        recipe: a key of `RECIPES`.
        seed: of the views.
        channels_last: lay batches out so; changes no pixel.
        workers: processes that decode encoded images ahead; None for the number the data were
            loaded with.
    """

    data: ImageData
    recipe: str
    seed: int
    channels_last: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        find_recipe(self.recipe)

    def stream(
        self, batches: Sequence[Int64[Tensor, " _"]], view: int
    ) -> Iterator[Float[Tensor, "_ D H W"]]:
        """One view of the examples at these positions of the data, batch after batch.

        Gives:
            pixels in 0..1.
        """
        images = self.data.stream(batches, self.workers)
        for positions_B, images_BDHW in zip(batches, images, strict=True):
            index_B = self.data.index_N[positions_B]
            yield self._views(images_BDHW, index_B, torch.full_like(index_B, view))

    def of(self, index_B: Int[Tensor, " B"], view_B: Int[Tensor, " B"]) -> Float[Tensor, "B D H W"]:
        """These views of the examples of that index.

        Raises:
            DataError: the data have no example of that index.
        """
        return self._views(self.data.pixels(self.positions(index_B)), index_B, view_B)

    def positions(self, index_B: Int[Tensor, " B"]) -> Int64[Tensor, " B"]:
        """Where in the data the examples of that index are.

        Raises:
            DataError: the data have no example of that index.
        """
        sorted_N, order_N = self._by_index
        place_B = torch.searchsorted(sorted_N, index_B).clamp_max(len(sorted_N) - 1)
        if not torch.equal(sorted_N[place_B], index_B):
            raise DataError(f"{self.data.name} has no example of a requested index")
        return order_N[place_B]

    def _views(self, images_BDHW: Tensor, index_B: Tensor, view_B: Tensor) -> Tensor:
        views_BDHW = make_views(images_BDHW, index_B, view_B, self.recipe, self.seed)
        if self.channels_last:
            return views_BDHW.contiguous(memory_format=torch.channels_last)
        return views_BDHW

    @cached_property
    def _by_index(self) -> tuple[Int64[Tensor, " N"], Int64[Tensor, " N"]]:
        sorted_N, order_N = self.data.index_N.sort()
        return sorted_N, order_N


def view_at(epoch: int, views: int, seed: int) -> int:
    """Which view of every example an epoch uses.

    All views come once before any comes again, in an order drawn anew each time. (Views of
    the same number are independent between examples, so one number for all is as random as one for
    each; and teachers can compute whole views.)

    Args:
        epoch: 0 for the first.
        views: how many views an example has, numbered from 0; 0 for a new one in every epoch.
        seed: any integer.

    Returns:
        0 to `views` - 1, or to 2**31 - 1 without a limit.

    Raises:
        RequestError: `views` is negative.

    >>> [view_at(epoch, 4, seed=0) for epoch in range(8)]
    [1, 3, 2, 0, 0, 2, 1, 3]
    """
    if views < 0:
        raise RequestError(f"views is {views}; give how many an example has, or 0 for no limit")
    if views == 0:
        return fold(seed, Stream.VIEW, epoch) >> 33
    turn, place = divmod(epoch, views)
    return sorted(range(views), key=lambda view: fold(seed, Stream.VIEW, turn, view))[place]


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
        view_seed: int = 0,
        shuffle: bool = False,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
        workers: int | None = None,
    ) -> None:
        """Moves the data to the device, once.

        Args:
            data: what to give out.
            batch_size: examples of a global batch, at least 1.
            recipe: a key of `RECIPES`.
            views: how many views an example has; 0 for a new one in every epoch.
            seed: what the order of examples and of views is drawn from.
            view_seed: what the pixels of a view are drawn from.
            shuffle: a new order and, if the recipe draws, other views in every epoch.
            rank: which of the processes this is, from 0.
            world: number of processes.
            device: where batches are made and stay.
            channels_last: lay batches out so; changes no pixel.
            workers: processes that decode encoded images ahead; None for the number the data
                were loaded with.

        Raises:
            DataError: a batch size below 1, or larger than the data of a shuffled loader.
            RequestError: no such process, or fewer examples in a shuffled batch than processes.
            UnknownNameError: no recipe is called that.
        """
        _check(data, batch_size, shuffle, rank, world)
        self.data = data.to(device)
        self.views = Views(self.data, recipe, view_seed, channels_last, workers)
        self._batch_size, self._shuffle = batch_size, shuffle
        self._limit, self._seed = views, seed
        self._rank, self._world = rank, world

    def __len__(self) -> int:
        """Number of batches this process gets in an epoch."""
        return len(self._bounds())

    def sizes(self) -> list[int]:
        """Number of examples of each batch this process gets in an epoch."""
        return [len(range(first, stop, self._world)) for first, stop in self._bounds()]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, 0 for the first; always the same ones.

        Args:
            epoch: which.
            start: batches to skip at its beginning; their images are not read.
        """
        order_N, view = self._order(epoch), self.view(epoch)
        bounds = self._bounds()[start:]
        batches = [order_N[first : stop : self._world] for first, stop in bounds]
        views = self.views.stream(batches, view)
        for positions_B, images_BDHW in zip(batches, views, strict=True):
            labels_B, index_B = self.data.labels_N[positions_B], self.data.index_N[positions_B]
            yield Batch(images_BDHW, labels_B, index_B, torch.full_like(index_B, view))

    def keys(self, epoch: int) -> tuple[Int64[Tensor, " N"], Int64[Tensor, " N"]]:
        """Index and view of everything all processes together get in an epoch."""
        index_N = self.data.index_N
        return index_N, torch.full_like(index_N, self.view(epoch))

    def view(self, epoch: int) -> int:
        """The number of the view that all examples have in an epoch."""
        # A recipe that changes nothing has one view: naming others would only miss stored answers.
        if not self._shuffle or self.views.recipe == "none":
            return 0
        return view_at(epoch, self._limit, self._seed)

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
        tail = count - starts[-1]
        too_small = tail < self._batch_size and tail // self._world < _LEAST_FOR_STATISTICS
        if self._shuffle and len(starts) > 1 and too_small:
            starts.pop()
        stops = [*starts[1:], count]
        pairs = ((start + self._rank, stop) for start, stop in zip(starts, stops, strict=True))
        return [(first, stop) for first, stop in pairs if first < stop]


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
