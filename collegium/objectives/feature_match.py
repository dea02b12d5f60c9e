"""Terms that compare layers without a regressor, all teachers at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence

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
from collegium.models.features.layer_names import MEAN, STRENGTH, read, shape_of, source_layers
from collegium.objectives.hints import share
from collegium.objectives.objective import AbstractTerm, TermInputs, among_rows
from collegium.types import Dims, HintPair, Layers


class AbstractComparison:
    """Student layers against layers of all teachers, without a regressor, summed over layers.

    The student's side is computed once for all teachers.

    Args:
        pairs: for each teacher, the pairs of a student layer and one of its own, by name.
        dims: of all networks.
    """

    pointwise = False
    _to_each: Callable[[Tensor, Sequence[Tensor]], Tensor]
    """The error of each example against each of T targets, (B, T)."""

    def __init__(self, pairs: Mapping[str, Sequence[tuple[str, str]]], dims: Dims) -> None:
        self.places = {name: dims.teachers.index(name) for name in pairs}
        self._others: dict[str, list[tuple[str, str]]] = {}
        self.layers: dict[str, Layers] = {}
        for name, layers in pairs.items():
            given = [(own, self._needed(dims, own, name, theirs)) for own, theirs in layers]
            for own, theirs in given:
                self._others.setdefault(own, []).append((name, theirs))
            self.layers[name] = Layers(
                tuple(dict.fromkeys(own for own, _ in layers)),
                {name: tuple(dict.fromkeys(theirs for _, theirs in given))},
                tuple(HintPair(own, name, theirs) for own, theirs in layers),
            )

    def _read(self, map_BDHW: Tensor) -> Tensor:
        """What is compared of a map; by default its mean over positions."""
        return map_BDHW.mean(dim=(2, 3))

    def _needed(self, dims: Dims, own: str, name: str, theirs: str) -> str:
        """The part or summary of a teacher's layer that is read, and so kept in a store."""
        return theirs if _is_part(theirs) else theirs + MEAN

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
        # Relations are taken among the examples whose class a teacher knows.
        return [
            (key, among_rows(given.known_by(self.places[key[0]]), self._to_one, student, target))
            for key, target in targets.items()
        ]

    def _to_one(self, student: Tensor, target: Tensor) -> Tensor:
        return self._to_each(student, [target])[:, 0]


class AttentionComparison(AbstractComparison):
    """Attention transfer (`attention`): where maps are strong.

    Raises:
        RequestError: no pair of maps has more than one position in common.
    """

    pointwise = True

    def __init__(self, pairs: Mapping[str, Sequence[tuple[str, str]]], dims: Dims) -> None:
        for name, layers in pairs.items():
            if all(_sizes(dims, own, name, theirs)[1] == (1, 1) for own, theirs in layers):
                raise RequestError(
                    "at compares where maps are strong, and those of the student and of teacher "
                    f"{name} have one position in common: use rkd, sp or fitnets, or other "
                    "hint_pairs"
                )
        super().__init__(pairs, dims)

    def _read(self, map_BDHW: Tensor) -> Tensor:
        return map_BDHW

    _to_each = staticmethod(attention_to_each)

    def _needed(self, dims: Dims, own: str, name: str, theirs: str) -> str:
        size, common = _sizes(dims, own, name, theirs)
        return theirs if _is_part(theirs) or size != common else theirs + STRENGTH


class SimilarityComparison(AbstractComparison):
    """Similarity preserving (`similarity`): similarities of the examples' flattened maps."""

    def _read(self, map_BDHW: Tensor) -> Tensor:
        # Products of examples do not depend on the order of features: the order in memory is used.
        return channels_last(map_BDHW).permute(0, 2, 3, 1).flatten(1)

    _to_each = staticmethod(similarity_to_each)

    def _needed(self, dims: Dims, own: str, name: str, theirs: str) -> str:
        return theirs


class DistanceComparison(AbstractComparison):
    """RKD's distances (`distance`) of the examples' mean features."""

    _to_each = staticmethod(distance_to_each)


class AngleComparison(AbstractComparison):
    """RKD's angles (`angle`) of the examples' mean features."""

    _to_each = staticmethod(angle_to_each)


class Compared(AbstractTerm):
    """scale * the teacher's weight * its part of a comparison.

    Args:
        comparison: shared by all teachers.
        teacher: the one whose layers are compared.
        scale: its weight.
    """

    def __init__(self, comparison: AbstractComparison, teacher: str, scale: float) -> None:
        super().__init__()
        self.comparison, self.teacher, self.scale = comparison, teacher, scale
        self.pointwise = comparison.pointwise
        self.layers = comparison.layers[teacher]

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """The sum over layers for each example."""
        error_B = given.cached(self.comparison)[self.teacher]
        return self.scale * share(given, self.comparison.places[self.teacher]) * error_B


def _sizes(dims: Dims, own: str, name: str, theirs: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Rows and columns of a teacher's map, and those to which both maps are pooled."""
    student, teacher = shape_of(dims.student_maps, own), shape_of(dims.teacher_maps[name], theirs)
    assert student is not None
    assert teacher is not None
    return teacher[1:], tuple(map(min, student[1:], teacher[1:]))


def _is_part(layer: str) -> bool:
    """Whether a layer's name stands for less than its whole map."""
    return source_layers(layer) != (layer,)
