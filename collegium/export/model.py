"""The student as it is exported, and models to compare it with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.export.load_student import Student
from collegium.export.options import ExportOptions
from collegium.models.network import Network
from collegium.models.outputs import logits_of
from collegium.models.weights import network_metadata
from collegium.types import MapShape


class LogitsOnly(nn.Module):
    """A network's module that returns its logits and nothing else."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.body, self.spec = network.body, network.spec

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images that are prepared for the module."""
        return logits_of(self.body(images), self.spec)


@dataclass(frozen=True)
class Model:
    """A model in two steps, as its user calls it.

    Attributes:
        prepare: from a view in pixels, 0..1, to its input.
        answer: from that input to logits (B, C).
    """

    prepare: Callable[[Tensor], Tensor]
    answer: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, views_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B C"]:
        """Logits of a view in pixels."""
        return self.answer(self.prepare(views_BDHW))


@dataclass(frozen=True)
class Subject:
    """A student and how it is written.

    Attributes:
        student: of a run.
        wanted: the options of its export.
    """

    student: Student
    wanted: ExportOptions

    @property
    def inside(self) -> bool:
        """Whether a graph takes pixels in 0..1 and prepares them itself."""
        return self.wanted.normalise == "inside"

    @property
    def network(self) -> Network:
        """The student."""
        return self.student.network

    @cached_property
    def original(self) -> Model:
        """The student itself, in PyTorch."""
        return Model((lambda views: views) if self.inside else self.network.prepare, self.graph)

    @property
    def graph(self) -> nn.Module:
        """The module that a graph is traced from."""
        return self.network if self.inside else LogitsOnly(self.network).eval()

    def example(self, count: int = 2) -> Tensor:
        """Blank inputs."""
        with torch.no_grad():
            return self.original.prepare(torch.zeros(count, *self.student.image_shape))

    @property
    def input_shape(self) -> MapShape:
        """Channels, rows and columns of an input."""
        channels, rows, columns = self.example(1).shape[1:]
        return channels, rows, columns

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of its weights file."""
        known = self.student.metadata
        more = {key: known[key] for key in ("dataset", "split", "top1", "code") if key in known}
        return network_metadata(self.network, **more)

    @property
    def graph_metadata(self) -> dict[str, str]:
        """The metadata of a graph, with the preparation of its input unless it does that itself."""
        known = self.metadata
        kept = {"architecture", "classes", "dataset", "split", "top1", "mean", "std"}
        words = {key: value for key, value in known.items() if key in kept}
        channels, rows, columns = self.input_shape
        if self.inside:
            plain = {"mean": " ".join("0" * channels), "std": " ".join("1" * channels)}
            return words | plain | {"normalise": "inside"}
        words |= {"size": f"{rows} {columns}", "normalise": "outside"}
        return words | {"interpolation": self.network.preprocess.interpolation}
