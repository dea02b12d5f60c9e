"""The objective that a method builds: one weighting of the teachers, and named terms that use it.

    weights_BT = weighting(student, teachers, labels)
    terms      = {name: term(given)}                                      each of shape (B,)

Terms are scaled already; their sum is the loss of an example. The batch mean is taken once, by
`total`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from collegium.errors import RequestError
from collegium.losses import soften
from collegium.types import Layers, StudentOutputs, TeacherOutputs
from collegium.weighting import AbstractWeighting, fill_unknown, mask_and_renormalize, mixture

Terms = dict[str, Float[Tensor, " B"]]
R = TypeVar("R")


def total(terms: Mapping[str, Float[Tensor, " B"]]) -> Float[Tensor, ""]:
    """The loss to minimise: the sum of the terms' means over the batch."""
    return torch.stack([term_B.mean() for term_B in terms.values()]).sum()


@dataclass(frozen=True)
class TermInputs:
    """The inputs of a term for one batch.

    Attributes:
        student: the student's outputs.
        teachers: the outputs of the active teachers.
        labels_B: true classes.
        weights_BT: each teacher's weight for each example.
    """

    student: StudentOutputs
    teachers: TeacherOutputs
    labels_B: Int[Tensor, " B"]
    weights_BT: Float[Tensor, "B T"]
    _done: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def cached(self, work: "Callable[[TermInputs], R]") -> R:
        """The result of a function of this batch, computed once for all terms that share it.

        Args:
            work: hashable; equal functions share one result.
        """
        if work not in self._done:
            self._done[work] = work(self)
        return self._done[work]

    def target(self, temperature: float) -> Float[Tensor, "B C"]:
        """The integrated soft target: the weighted mean of the teachers' softened outputs.

        Classes that a teacher does not know or distinguish are filled with the student's
        probabilities. A row is 0 where no teacher knows the example's class.
        """
        p_BTC = soften(self.teachers.logits_BTC, temperature)
        if self.teachers.groups_TC is not None:
            student_BC = soften(self.student.logits_BC, temperature)
            p_BTC = fill_unknown(p_BTC, student_BC, self.teachers.groups_TC)
        return mixture(self.weights_BT, p_BTC)

    def known_by(self, place: int) -> Bool[Tensor, " B"] | None:
        """Whether the teacher at a place knows each example's class; None where all know all."""
        known_BT = self.teachers.known_mask(self.labels_B)
        return None if known_BT is None else known_BT[:, place]

    def known_by_any(self) -> Bool[Tensor, " B"] | None:
        """Whether some teacher knows each example's class; None where all know all."""
        known_BT = self.teachers.known_mask(self.labels_B)
        return None if known_BT is None else known_BT.any(dim=1)


def class_numbers(labels_B: Any, logits_BC: Tensor) -> Int[Tensor, " B"]:
    """The labels of a batch as int64, checked to be one class for each example.

    Args:
        labels_B: integers of any type, 0 to C-1. Their range is checked only on the CPU, where the
            check needs no synchronisation.
        logits_BC: the logits they belong to.

    Raises:
        RequestError: floats, booleans, rows, the wrong number, or a class out of range.
    """
    if not isinstance(labels_B, Tensor):
        given = type(labels_B).__name__
        raise RequestError(f"labels are a {given}, expected a tensor of class numbers (B,)")
    shape, kind = tuple(labels_B.shape), str(labels_B.dtype).removeprefix("torch.")
    count, classes = logits_BC.shape
    wanted = f"expected integer class numbers of the shape ({count},)"
    what = f"labels are {kind} of the shape {shape}, {wanted}"
    if labels_B.is_floating_point() or labels_B.is_complex() or labels_B.dtype == torch.bool:
        more = "; rows of one 1 become these by labels.argmax(1)" if labels_B.ndim == 2 else ""
        raise RequestError(f"{what}: neither several labels nor a regression can be learned{more}")
    if shape != (count,):
        column = "; a column becomes that by labels[:, 0]" if shape == (count, 1) else ""
        raise RequestError(f"{what}{column}")
    if labels_B.device.type == "cpu" and count:
        for extreme in (int(labels_B.min()), int(labels_B.max())):
            if not 0 <= extreme < classes:
                raise RequestError(f"a label is {extreme}, expected 0 to {classes - 1}")
    return labels_B.long()


class AbstractTerm(nn.Module, ABC):
    """One named part of an objective."""

    layers = Layers()
    scale: float = 1.0
    """Factor of the term."""
    until: float = 1.0
    """Part of the epochs in which the term counts."""
    warmup: float = 0.0
    """Part of the epochs over which its weight grows from 0."""
    trains_student: bool = True
    """Whether its gradient reaches the student, and not only the method's own parameters."""
    pointwise: bool = True
    """Whether an example's value does not depend on the rest of the batch."""

    @abstractmethod
    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """The scaled value for each example."""


class Objective(nn.Module):
    """The loss of a method; its parameters are those that the method itself learns.

    Args:
        terms: by name, in the order of the report.
        weighting: None for a method without teachers.
    """

    def __init__(
        self, terms: Mapping[str, AbstractTerm], weighting: AbstractWeighting | None = None
    ) -> None:
        super().__init__()
        self.names = tuple(terms)
        # A ModuleList, since names may contain a dot, which a ModuleDict refuses.
        self.parts = nn.ModuleList(terms.values())
        self.weighting = weighting
        self.progress = 0.0
        self.passed = 1.0  # epochs begun, as a part of all

    @property
    def terms(self) -> dict[str, AbstractTerm]:
        """The terms by name."""
        return dict(zip(self.names, self.parts, strict=True))  # type: ignore[arg-type]

    @property
    def layers(self) -> Layers:
        """The hidden layers that the terms read."""
        student = (path for term in self.terms.values() for path in term.layers.student)
        teachers: dict[str, tuple[str, ...]] = {}
        for term in self.terms.values():
            for name, paths in term.layers.teachers.items():
                teachers[name] = _unique((*teachers.get(name, ()), *paths))
        pairs = (pair for term in self.terms.values() for pair in term.layers.pairs)
        return Layers(_unique(student), teachers, tuple(dict.fromkeys(pairs)))

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Call when epoch `epoch` (from 0) of `epochs` begins: schedules depend on it alone."""
        self.progress, self.passed = epoch / max(epochs, 1), (epoch + 1) / max(epochs, 1)
        if self.weighting is not None:
            self.weighting.start_epoch(epoch, epochs)

    def weigh(
        self, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Tensor
    ) -> Float[Tensor, "B T"]:
        """Each teacher's weight for each example; (B, 0) for a method without teachers.

        A teacher has weight 0 where it does not know the class; the others' weights sum to 1.
        Where no teacher knows it, the row is 0.
        """
        labels_B = class_numbers(labels_B, student.logits_BC)
        if self.weighting is None:
            return student.logits_BC.new_empty(len(student.logits_BC), 0)
        weights_BT: Tensor = self.weighting(student, teachers, labels_B)
        return mask_and_renormalize(weights_BT, teachers.known_mask(labels_B))

    def forward(
        self,
        student: StudentOutputs,
        teachers: TeacherOutputs,
        labels_B: Tensor,
        weights_BT: Float[Tensor, "B T"] | None = None,
    ) -> Terms:
        """Every active term, scaled, of shape (B,); pass weights to reuse them.

        Raises:
            RequestError: labels that are not one class for each example.
        """
        labels_B = class_numbers(labels_B, student.logits_BC)
        if weights_BT is None:
            weights_BT = self.weigh(student, teachers, labels_B)
        given = TermInputs(student, teachers, labels_B, weights_BT)
        return {
            name: term(given) * min(1.0, self.passed / term.warmup) if term.warmup else term(given)
            for name, term in self.terms.items()
            if self.progress < term.until
        }


def among_rows(
    rows_B: Bool[Tensor, " B"] | None,
    compare: Callable[[Tensor, Tensor], Tensor],
    student: Float[Tensor, "B ..."],
    target: Float[Tensor, "B ..."],
) -> Float[Tensor, " B"]:
    """A loss among some of the examples, 0 for the others; None stands for all examples."""
    if rows_B is None:
        return compare(student, target)
    if not rows_B.any():
        return student.flatten(1).sum(dim=1) * 0
    error_M = compare(student[rows_B], target[rows_B])
    return error_M.new_zeros(len(rows_B)).masked_scatter(rows_B, error_M)


def _unique(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))
