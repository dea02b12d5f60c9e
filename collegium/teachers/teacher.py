"""One frozen network that answers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from collegium.models.network import Network, freeze
from collegium.models.taps import Taps

Precision = Callable[[], AbstractContextManager[object]]
"""Gives the context a forward runs in: autocast, or nothing."""

LEAST = 8
"""Smaller batches are filled up: for one image alone a CPU's kernels round in another order."""


@dataclass(frozen=True)
class Answer:
    """What one teacher says of some views, in float32.

    Attributes:
        logits_BC: raw scores.
        maps: hidden layers by module path.
    """

    logits_BC: Float[Tensor, "B C"]
    maps: Mapping[str, Float[Tensor, "B _ _ _"]]


class Teacher:
    """A network in evaluation mode, without gradients, whose hidden layers can be read.

    An image gets the same answer in any batch: bit for bit on one CPU, which is what lets a
    stored answer stand for a live one.

    Args:
        network: frozen here.
        paths: hidden layers to read.
        precision: what it computes in.
        compiled: the network, compiled for batches of `size`.
        size: other batches go through the network itself, lest they should compile it again.
    """

    def __init__(
        self,
        network: Network,
        paths: Sequence[str] = (),
        precision: Precision = nullcontext,
        compiled: Callable[[Tensor], Tensor] | None = None,
        size: int = 0,
    ) -> None:
        self.network = freeze(network)
        self.precision = precision
        self._compiled, self._size = compiled, size
        self._taps = Taps(network.body, paths)

    def answer(self, images_BDHW: Float[Tensor, "B D H W"]) -> Answer:
        """Logits and maps of views given as pixels in 0..1."""
        self.network.eval()  # whoever holds the module may have called train() on it
        count = len(images_BDHW)
        ask: Callable[[Tensor], Tensor] = self.network
        if self._compiled is not None and count == self._size:
            ask = self._compiled
        with torch.no_grad(), self.precision():
            logits_BC = ask(_filled(images_BDHW))
        maps = self._taps.take()
        return Answer(
            logits_BC[:count].float(), {path: maps[path][:count].float() for path in maps}
        )

    def close(self) -> None:
        """Stop reading hidden layers; the network is as it was."""
        self._taps.close()


def _filled(images_BDHW: Tensor) -> Tensor:
    missing = LEAST - len(images_BDHW)
    if missing <= 0:
        return images_BDHW
    return torch.cat([images_BDHW, images_BDHW[:1].expand(missing, -1, -1, -1)])
