"""Terms on hidden layers, teacher by teacher."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.losses import (
    angle,
    attention,
    direction_hint,
    distance,
    flow,
    flow_error,
    hint,
    match_resolution,
    similarity,
    unit_channels,
)
from collegium.models.reading import POOLED
from collegium.objective import AbstractTerm, Given, among_rows
from collegium.types import Head, HintPair, Layers, MapShape
from collegium.weighting import confidence_weights
from collegium.weighting.base import generator_for


def share(given: Given, place: int | None, weighted: bool = True) -> Tensor:
    """What the teacher at a place gets of each example, or 1 where it knows it; 1 for no place."""
    if place is not None and weighted:
        return given.weights_BT[:, place]
    rows_B = None if place is None else given.taught_by(place)
    return given.weights_BT.new_ones(()) if rows_B is None else rows_B.to(given.weights_BT)


HintNorm = Literal["channel_out", "channel_in", "none"]


class Hint(AbstractTerm):
    """scale * (regressor(student map) - teacher map)^2: one teacher's hint to one student layer.

    The larger map is average-pooled to the smaller one, then a 1x1 convolution brings the
    student's channels to the teacher's: on tokens, which are positions of a map here, that is one
    linear layer for all of them.

    Args:
        student_layer: its name in the student, and its shape.
        teacher: whose hint it is.
        teacher_layer: its name in the teacher, and its shape.
        scale: its weight.
        norm: "channel_out" compares directions (both maps of unit length over channels after the
            regressor, error summed over channels: 2 - 2 cos); "channel_in" normalises before a
            regressor without bias, as the authors do; "none" is FitNets' plain squared error.
        pooled: compare every position with the teacher's mean over positions.
        trained: whether the regressor learns.
        until: part of the epochs in which the term counts.
        seed: of the regressor's start, which belongs to the teacher's name.
        place: the teacher's among those that are heard; None for a single hint by itself.
        weighted: whether the teacher's weights count, or every example it knows counts the same.
    """

    def __init__(
        self,
        student_layer: tuple[str, MapShape],
        teacher: str,
        teacher_layer: tuple[str, MapShape],
        *,
        scale: float,
        norm: HintNorm = "channel_out",
        pooled: bool = False,
        trained: bool = True,
        until: float = 1.0,
        seed: int = 0,
        place: int | None = None,
        weighted: bool = True,
    ) -> None:
        super().__init__()
        (self.student_path, student_shape), self.teacher = student_layer, teacher
        self.teacher_path, teacher_shape = teacher_layer
        self.layers = Layers.of([HintPair(self.student_path, teacher, self.teacher_path)])
        self.scale, self.norm, self.pooled, self.until = scale, norm, pooled, until
        self.place, self.weighted = place, weighted
        self.regressor = nn.Conv2d(
            student_shape[0], teacher_shape[0], kernel_size=1, bias=norm != "channel_in"
        )
        self._start(generator_for(f"{teacher}/{self.student_path}", seed))
        self.requires_grad_(trained)

    def _start(self, generator: torch.Generator) -> None:
        # The authors draw from U(-0.005, 0.005); else Kaiming's bound for a linear layer.
        fan_in = self.regressor.in_channels
        bound = 0.005 if self.norm == "channel_in" else (3 / fan_in) ** 0.5
        with torch.no_grad():
            self.regressor.weight.uniform_(-bound, bound, generator=generator)
            if self.regressor.bias is not None:
                self.regressor.bias.zero_()

    def forward(self, given: Given) -> Float[Tensor, " B"]:
        """The hint's error per example."""
        error_B = self.error(
            given.student.maps[self.student_path],
            given.teachers.maps[self.teacher][self.teacher_path],
        )
        return self.scale * share(given, self.place, self.weighted) * error_B

    def error(
        self, student_BDHW: Float[Tensor, "B _ _ _"], teacher_BDHW: Float[Tensor, "B _ _ _"]
    ) -> Float[Tensor, " B"]:
        """The unscaled error between a student map and a teacher map."""
        teacher_BDHW = teacher_BDHW.detach()
        if self.pooled:
            teacher_BDHW = teacher_BDHW.mean(dim=(2, 3), keepdim=True)
        else:
            student_BDHW, teacher_BDHW = match_resolution(student_BDHW, teacher_BDHW)
        if self.norm == "channel_in":
            student_BDHW, teacher_BDHW = unit_channels(student_BDHW), unit_channels(teacher_BDHW)
        regressed_BDHW = self.regressor(student_BDHW)
        if self.norm == "channel_out":
            return direction_hint(regressed_BDHW, teacher_BDHW.expand_as(regressed_BDHW))
        return hint(regressed_BDHW, teacher_BDHW)


Comparison = Literal["attention", "similarity", "distance", "angle"]


class Compared(AbstractTerm):
    """scale * the teacher's share * a comparison of maps that needs no regressor, over layers.

    Args:
        comparison: "attention" of maps, "similarity" of flattened maps, "distance" or "angle" of
            their means over positions.
        layers: pairs of a student layer and a teacher layer, by name; their sum is taken.
        teacher: whose layers they are.
        scale: its weight.
        place: the teacher's among those that are heard.
    """

    def __init__(
        self,
        comparison: Comparison,
        layers: Sequence[tuple[str, str]],
        teacher: str,
        scale: float,
        place: int,
    ) -> None:
        super().__init__()
        self.pairs, self.teacher = tuple(layers), teacher
        self.scale, self.place, self.pointwise = scale, place, comparison == "attention"
        self.compare = _COMPARISONS[comparison]
        self.layers = Layers.of(HintPair(own, teacher, theirs) for own, theirs in layers)

    def forward(self, given: Given) -> Float[Tensor, " B"]:
        """The sum over layers for each example."""
        theirs = given.teachers.maps[self.teacher]
        rows_B = given.taught_by(self.place)  # relations are taken among what the teacher knows
        errors = [
            among_rows(rows_B, self.compare, given.student.maps[own], _layer(theirs, path))
            for own, path in self.pairs
        ]
        return self.scale * share(given, self.place) * torch.stack(errors).sum(dim=0)


def _layer(maps: Mapping[str, Tensor], path: str) -> Tensor:
    """The layer of that path; a pooled one is made of the whole where that is there."""
    return maps[path] if path in maps else _mean(maps[path.removesuffix(POOLED)])[:, :, None, None]


def _mean(map_BDHW: Tensor) -> Tensor:
    return map_BDHW.mean(dim=(2, 3))


_COMPARISONS: dict[Comparison, Callable[[Tensor, Tensor], Tensor]] = {
    "attention": attention,
    "similarity": lambda own, target: similarity(own.flatten(1), target.flatten(1)),
    "distance": lambda own, target: distance(_mean(own), _mean(target)),
    "angle": lambda own, target: angle(_mean(own), _mean(target)),
}


class Flow(AbstractTerm):
    """scale * the teacher's share * the squared difference of flows between two layers each.

    Where channels differ a trained 1x1 convolution brings the student's to the teacher's.

    Args:
        student: two layers, each a name and its shape.
        teacher: whose layers the others are.
        theirs: the teacher's two layers.
        scale: its weight.
        place: the teacher's among those that are heard.
        seed: of the convolutions' starts.
    """

    def __init__(
        self,
        student: Sequence[tuple[str, MapShape]],
        teacher: str,
        theirs: Sequence[tuple[str, MapShape]],
        *,
        scale: float,
        place: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.own, self.theirs = ([path for path, _ in layers] for layers in (student, theirs))
        self.teacher, self.scale, self.place = teacher, scale, place
        pairs = zip(self.own, self.theirs, strict=True)
        self.layers = Layers.of(HintPair(own, teacher, path) for own, path in pairs)
        shapes = zip(student, theirs, strict=True)
        self.regressors = nn.ModuleList(
            _to_channels(own[0], target[0], f"{teacher}/{path}/flow", seed)
            for (path, own), (_, target) in shapes
        )

    def forward(self, given: Given) -> Float[Tensor, " B"]:
        """One value per example."""
        maps = [given.student.maps[path] for path in self.own]
        own = [regressor(m) for regressor, m in zip(self.regressors, maps, strict=True)]
        targets = [given.teachers.maps[self.teacher][path].detach() for path in self.theirs]
        error_B = flow_error(flow(*own), flow(*targets))
        return self.scale * share(given, self.place) * error_B


def _to_channels(own: int, target: int, name: str, seed: int) -> nn.Module:
    if own == target:
        return nn.Identity()
    convolution = nn.Conv2d(own, target, kernel_size=1, bias=False)
    with torch.no_grad():
        convolution.weight.uniform_(
            -((3 / own) ** 0.5), (3 / own) ** 0.5, generator=generator_for(name, seed)
        )
    return convolution


class ClassifiedHints(AbstractTerm):
    """scale * hints of all teachers, each weighted by what its own classifier makes of the student.

    CA-MKD (Zhang et al. 2022, eq. 6-9): the student's map, after teacher t's regressor, goes
    through teacher t's classifier; `confidence_weights` of these answers weigh the hints. The
    gradient goes through classifier and weights, as in the public code; classifiers stay fixed.

    Args:
        hints: one per teacher, unscaled, with its place and "none" for its norm.
        heads: each teacher's classifier, weight (C, D) and bias (C,).
        scale: beta.
    """

    def __init__(
        self,
        hints: Sequence[Hint],
        heads: Sequence[Head],
        scale: float,
    ) -> None:
        super().__init__()
        self.hints = nn.ModuleList(hints)
        self.scale = scale
        self._places = [hint.place for hint in hints]
        self._heads = tuple(heads)  # data of the teachers, not of the method: not saved with it
        self.layers = Layers.of(pair for hint in hints for pair in hint.layers.pairs)

    def forward(self, given: Given) -> Float[Tensor, " B"]:
        """One value per example."""
        errors, answers = [], []
        for module, head in zip(self.hints, self._heads, strict=True):
            assert isinstance(module, Hint)
            own = given.student.maps[module.student_path]
            target = given.teachers.maps[module.teacher][module.teacher_path].detach()
            own, target = match_resolution(own, target)
            regressed = module.regressor(own)
            errors.append(hint(regressed, target))
            weight_CD, bias_C = (tensor.to(regressed) for tensor in head)
            answers.append(_mean(regressed) @ weight_CD.mT + bias_C)
        known_BT = given.teachers.knowing(given.labels_B)
        known_BT = None if known_BT is None else known_BT[:, self._places]
        weights_BT = confidence_weights(torch.stack(answers, dim=1), given.labels_B, known_BT)
        return self.scale * (weights_BT * torch.stack(errors, dim=1)).sum(dim=1)
