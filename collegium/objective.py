"""What a method builds: one weighting of the teachers and named terms that use it.

    weights_BT = weighting(student, teachers, labels)
    terms      = {name: term(given)}                                      each of shape (B,)

Terms come scaled; their sum is the loss of an example. Means are taken once, by `total`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from collegium.losses import soften
from collegium.types import Layers, StudentOutputs, TeacherOutputs
from collegium.weighting import AbstractWeighting, mixture

Terms = dict[str, Float[Tensor, " B"]]


def total(terms: Mapping[str, Float[Tensor, " B"]]) -> Float[Tensor, ""]:
    """The loss to go down: the sum of the terms, meaned over the batch."""
    return torch.stack([term_B.mean() for term_B in terms.values()]).sum()


@dataclass(frozen=True)
class Given:
    """What a term is given for one batch.

    Attributes:
        student: the student's outputs.
        teachers: the outputs of those that are heard.
        labels_B: true classes.
        weights_BT: what each teacher gets of each example.
    """

    student: StudentOutputs
    teachers: TeacherOutputs
    labels_B: Int[Tensor, " B"]
    weights_BT: Float[Tensor, "B T"]

    def target(self, temperature: float) -> Float[Tensor, "B C"]:
        """The integrated soft target: the weighted mean of the teachers' softened answers."""
        return mixture(self.weights_BT, soften(self.teachers.logits_BTC, temperature))


class AbstractTerm(nn.Module, ABC):
    """One named part of an objective."""

    layers = Layers()
    scale: float = 1.0
    """What the term is multiplied by."""
    until: float = 1.0
    """Part of the epochs in which the term counts."""
    warmup: float = 0.0
    """Part of the epochs over which it grows from nothing."""
    pointwise: bool = True
    """Whether an example's value has nothing to do with the rest of the batch."""

    @abstractmethod
    def forward(self, given: Given) -> Float[Tensor, " B"]:
        """The scaled value for each example."""


class Objective(nn.Module):
    """The loss of a method; its parameters are what the method itself learns.

    Args:
        terms: by name, in the order they are reported.
        weighting: None for a method that hears no teacher.
    """

    def __init__(
        self, terms: Mapping[str, AbstractTerm], weighting: AbstractWeighting | None = None
    ) -> None:
        super().__init__()
        self.names = tuple(terms)
        # A ModuleList because a name may hold a dot, which a ModuleDict refuses.
        self.parts = nn.ModuleList(terms.values())
        self.weighting = weighting
        self.progress = 0.0
        self.passed = 1.0  # epochs begun, as a part of all; everything, until told the time

    @property
    def terms(self) -> dict[str, AbstractTerm]:
        """The terms by name."""
        return dict(zip(self.names, self.parts, strict=True))  # type: ignore[arg-type]

    @property
    def layers(self) -> Layers:
        """Hidden layers that some term reads."""
        student = (path for term in self.terms.values() for path in term.layers.student)
        teachers: dict[str, tuple[str, ...]] = {}
        for term in self.terms.values():
            for name, paths in term.layers.teachers.items():
                teachers[name] = _unique((*teachers.get(name, ()), *paths))
        return Layers(_unique(student), teachers)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Epoch `epoch` (from 0) of `epochs` begins: the only way time gets in."""
        self.progress, self.passed = epoch / max(epochs, 1), (epoch + 1) / max(epochs, 1)
        if self.weighting is not None:
            self.weighting.start_epoch(epoch, epochs)

    def weigh(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """What each teacher gets of each example; (B, 0) where no teacher is heard."""
        if self.weighting is None:
            return student.logits_BC.new_empty(len(student.logits_BC), 0)
        weights_BT: Tensor = self.weighting(student, teachers, labels_B)
        return weights_BT

    def forward(
        self,
        student: StudentOutputs,
        teachers: TeacherOutputs,
        labels_B: Int[Tensor, " B"],
        weights_BT: Float[Tensor, "B T"] | None = None,
    ) -> Terms:
        """Every term that counts now, scaled, of shape (B,); pass weights to reuse them."""
        if weights_BT is None:
            weights_BT = self.weigh(student, teachers, labels_B)
        given = Given(student, teachers, labels_B, weights_BT)
        return {
            name: term(given) * min(1.0, self.passed / term.warmup) if term.warmup else term(given)
            for name, term in self.terms.items()
            if self.progress < term.until
        }


def _unique(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))
