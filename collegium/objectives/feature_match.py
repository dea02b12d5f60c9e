"""Terms that compare layers without a regressor, all teachers at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from collegium.errors import RequestError
from collegium.losses import (
    angle_to_each,
    attention_to_each,
    channels_last,
    distance_to_each,
    similarity_to_each,
)
from collegium.models.features.layer_names import MEAN, STRENGTH, read, shape_of, wholes
from collegium.objectives.hints import share
from collegium.objectives.objective import AbstractTerm, TermInputs, among_rows
from collegium.types import Dims, HintPair, Layers

ComparisonName = Literal["attention", "similarity", "distance", "angle"]


class Comparison:
    """Student layers against those of all teachers, with no regressor, summed over layers.

    Of all teachers at once: what is the student's is computed once for them all.

    Args:
        kind: "attention" of maps, "similarity" of flattened maps, "distance" or "angle" of their
            means over positions.
        pairs: for each teacher, the pairs of a student layer and one of its own, by name.
        dims: of all networks.

    Raises:
        RequestError: attention where no pair of maps has more than one position in common.
    """

    def __init__(
        self, kind: ComparisonName, pairs: Mapping[str, Sequence[tuple[str, str]]], dims: Dims
    ) -> None:
        self.pointwise = kind == "attention"
        self.places = {name: dims.teachers.index(name) for name in pairs}
        self._read, self._to_each = _COMPARISONS[kind]
        if kind == "attention":
            _check_positions(pairs, dims)
        self._others: dict[str, list[tuple[str, str]]] = {}
        self.layers: dict[str, Layers] = {}
        for name, layers in pairs.items():
            given = [(own, _needed(kind, dims, own, name, theirs)) for own, theirs in layers]
            for own, theirs in given:
                self._others.setdefault(own, []).append((name, theirs))
            self.layers[name] = Layers(
                tuple(dict.fromkeys(own for own, _ in layers)),
                {name: tuple(dict.fromkeys(theirs for _, theirs in given))},
                tuple(HintPair(own, name, theirs) for own, theirs in layers),
            )

    def __call__(self, given: TermInputs) -> dict[str, Float[Tensor, " B"]]:
        """The error per example, for each teacher."""
        errors: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        for own, others in self._others.items():
            student = self._read(given.student.maps[own])
            targets = {
                (name, path): self._read(read(given.teachers.maps[name], path))
                for name, path in others
            }
            for (name, _), error_B in self._compare(given, student, targets):
                errors[name].append(error_B)
        return {name: torch.stack(each).sum(dim=0) for name, each in errors.items()}

    def _compare(
        self, given: TermInputs, student: Tensor, targets: Mapping[tuple[str, str], Tensor]
    ) -> Iterable[tuple[tuple[str, str], Tensor]]:
        if given.teachers.known_mask(given.labels_B) is None:
            errors = self._to_each(student, list(targets.values())).unbind(1)
            return zip(targets, errors, strict=True)
        # Relations are taken among what a teacher knows, which each teacher has of its own.
        return [
            (key, among_rows(given.known_by(self.places[key[0]]), self._to_one, student, target))
            for key, target in targets.items()
        ]

    def _to_one(self, student: Tensor, target: Tensor) -> Tensor:
        return self._to_each(student, [target])[:, 0]


class Compared(AbstractTerm):
    """scale * the teacher's share * its part of a comparison.

    Args:
        comparison: of all teachers.
        teacher: whose part it is.
        scale: its weight.
    """

    def __init__(self, comparison: Comparison, teacher: str, scale: float) -> None:
        super().__init__()
        self.comparison, self.teacher, self.scale = comparison, teacher, scale
        self.pointwise = comparison.pointwise
        self.layers = comparison.layers[teacher]

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """The sum over layers for each example."""
        error_B = given.cached(self.comparison)[self.teacher]
        return self.scale * share(given, self.comparison.places[self.teacher]) * error_B


def _check_positions(pairs: Mapping[str, Sequence[tuple[str, str]]], dims: Dims) -> None:
    """Refuse attention that would be 0 whatever the student does."""
    for name, layers in pairs.items():
        sizes = [_common(dims, own, name, theirs) for own, theirs in layers]
        if all(size == (1, 1) for size in sizes):
            raise RequestError(
                f"at compares where maps are strong, and those of the student and of teacher {name}"
                " have one position in common: use rkd, sp or fitnets, or name other layers by "
                "hint_pairs"
            )


def _common(dims: Dims, own: str, name: str, theirs: str) -> tuple[int, ...]:
    """The smaller of both maps' heights and of their widths."""
    student, teacher = shape_of(dims.student_maps, own), shape_of(dims.teacher_maps[name], theirs)
    assert student is not None
    assert teacher is not None
    return tuple(map(min, student[1:], teacher[1:]))


def _mean(map_BDHW: Tensor) -> Tensor:
    return map_BDHW.mean(dim=(2, 3))


def _whole(map_BDHW: Tensor) -> Tensor:
    return map_BDHW


def _flat(map_BDHW: Tensor) -> Tensor:
    # Products of examples do not depend on the order of their features: the one in memory.
    return channels_last(map_BDHW).permute(0, 2, 3, 1).flatten(1)


# Functions with names: a module that holds one can be pickled.
_ToEach = Callable[[Tensor, Sequence[Tensor]], Tensor]
_COMPARISONS: dict[ComparisonName, tuple[Callable[[Tensor], Tensor], _ToEach]] = {
    "attention": (_whole, attention_to_each),
    "similarity": (_flat, similarity_to_each),
    "distance": (_mean, distance_to_each),
    "angle": (_mean, angle_to_each),
}


def _needed(kind: ComparisonName, dims: Dims, own: str, name: str, theirs: str) -> str:
    """What is compared of a teacher's layer, which is all that a store has to keep of it."""
    if kind == "similarity" or wholes(theirs) != (theirs,):
        return theirs
    if kind == "attention":
        return theirs if _is_pooled(dims, own, name, theirs) else theirs + STRENGTH
    return theirs + MEAN


def _is_pooled(dims: Dims, own: str, name: str, theirs: str) -> bool:
    """Whether a teacher's map is brought to the resolution of the student's."""
    teacher = shape_of(dims.teacher_maps[name], theirs)
    assert teacher is not None
    return _common(dims, own, name, theirs) != teacher[1:]
