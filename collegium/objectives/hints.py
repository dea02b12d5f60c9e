"""Terms on hidden layers with a regressor for each teacher."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.errors import RequestError
from collegium.losses import channels_last, direction_hint, hint, match_resolution, unit_channels
from collegium.objectives.objective import AbstractTerm, TermInputs
from collegium.types import Dims, Head, HintPair, Layers
from collegium.weighting import confidence_weights
from collegium.weighting.base import generator_for


def share(given: TermInputs, place: int, weighted: bool = True) -> Tensor:
    """The weights of the teacher at a place; if not `weighted`, 1 where it knows the class."""
    if weighted:
        return given.weights_BT[:, place]
    rows_B = given.known_by(place)
    return given.weights_BT.new_ones(()) if rows_B is None else rows_B.to(given.weights_BT)


def make_regressor(
    own: int, theirs: int, generator: torch.Generator, bias: bool, bound: float | None = None
) -> nn.Conv2d:
    """A 1x1 convolution from the student's channels to the teacher's.

    Args:
        own: number of the student's channels.
        theirs: of the teacher's.
        generator: draws the initial weights.
        bias: whether it adds a bias, at first 0.
        bound: largest initial weight; by default Kaiming's bound for a linear layer.
    """
    convolution = nn.Conv2d(own, theirs, kernel_size=1, bias=bias)
    bound = (3 / own) ** 0.5 if bound is None else bound
    with torch.no_grad():
        convolution.weight.uniform_(-bound, bound, generator=generator)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


HintNorm = Literal["channel_out", "channel_in", "none"]


class Hint(AbstractTerm):
    """scale * (regressor(student map) - teacher map)^2: one teacher's hint to one student layer.

    The larger map is average-pooled to the smaller one, then a 1x1 convolution maps the student's
    channels to the teacher's. Tokens are positions of a map, so for them it is a linear layer.

    Args:
        pair: the two layers and the teacher's name.
        dims: shapes of all networks, and the seed of the regressor's initial weights, which are
            drawn for the teacher's name.
        scale: its weight.
        norm: "channel_out" compares directions (both maps of unit length over channels after the
            regressor, error summed over channels: 2 - 2 cos); "channel_in" normalises before a
            regressor without bias, as the authors do; "none" is FitNets' plain squared error.
        pooled: compare every position with the teacher's mean over positions.
        trained: whether the regressor learns.
        until: part of the epochs in which the term counts.
        weighted: whether the weighting applies; if not, every example the teacher knows counts 1.

    Raises:
        RequestError: directions over one channel, which teach nothing.
    """

    def __init__(
        self,
        pair: HintPair,
        dims: Dims,
        *,
        scale: float,
        norm: HintNorm = "channel_out",
        pooled: bool = False,
        trained: bool = True,
        until: float = 1.0,
        weighted: bool = True,
    ) -> None:
        super().__init__()
        self.student_path, self.teacher, self.teacher_path = pair
        self.layers, self.place = Layers.of([pair]), dims.teachers.index(pair.teacher)
        self.scale, self.norm, self.pooled = scale, norm, pooled
        self.until, self.weighted = until, weighted
        own = dims.student_maps[self.student_path][0]
        theirs = dims.teacher_maps[self.teacher][self.teacher_path][0]
        _check_directions(pair, norm, own, theirs)
        bound = 0.005 if norm == "channel_in" else None  # as in the authors' code
        generator = generator_for(f"{self.teacher}/{self.student_path}", dims.seed)
        self.regressor = make_regressor(own, theirs, generator, norm != "channel_in", bound)
        self.requires_grad_(trained)

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
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
        student_BDHW, teacher_BDHW = channels_last(student_BDHW), channels_last(teacher_BDHW)
        if self.norm == "channel_in":
            student_BDHW, teacher_BDHW = unit_channels(student_BDHW), unit_channels(teacher_BDHW)
        regressed_BDHW = self.regressor(student_BDHW)
        if self.norm == "channel_out":
            return direction_hint(regressed_BDHW, teacher_BDHW.expand_as(regressed_BDHW))
        return hint(regressed_BDHW, teacher_BDHW)


def _check_directions(pair: HintPair, norm: HintNorm, own: int, theirs: int) -> None:
    """Refuse directions of one channel, which are 1 or -1 everywhere."""
    if norm != "none" and (theirs if norm == "channel_out" else own) == 1:
        raise RequestError(
            f"hint {pair} compares directions over channels (hint_norm {norm}), and there is one "
            "channel: use hint_norm none"
        )


class ClassifiedHints(AbstractTerm):
    """scale * hints of all teachers, weighted by their own classifiers' confidence on the student.

    CA-MKD (Zhang et al. 2022, eq. 6-9): the student's map, after teacher t's regressor, goes
    through teacher t's classifier; `confidence_weights` of these logits weight the hints. The
    gradient goes through classifier and weights, as in the public code; classifiers stay fixed.

    Args:
        hints: one per teacher, unscaled, with norm "none".
        heads: each teacher's classifier, weight (C, D) and bias (C,).
        scale: beta.
    """

    def __init__(self, hints: Sequence[Hint], heads: Sequence[Head], scale: float) -> None:
        super().__init__()
        self.hints = nn.ModuleList(hints)
        self.scale = scale
        self._places = [hint.place for hint in hints]
        self._heads = tuple(heads)  # the teachers' own: not saved with the method
        self.layers = Layers.of(pair for hint in hints for pair in hint.layers.pairs)

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """One value per example."""
        errors, logits = [], []
        means: dict[tuple[str, torch.Size], Tensor] = {}
        for module, head in zip(self.hints, self._heads, strict=True):
            assert isinstance(module, Hint)
            own = given.student.maps[module.student_path]
            target = given.teachers.maps[module.teacher][module.teacher_path].detach()
            own, target = match_resolution(channels_last(own), channels_last(target))
            errors.append(hint(module.regressor(own), target))
            key = module.student_path, own.shape
            if key not in means:
                means[key] = own.mean(dim=(2, 3), keepdim=True)
            # A 1x1 convolution commutes with the mean over positions.
            mean_BD = module.regressor(means[key])[:, :, 0, 0]
            weight_CD, bias_C = (tensor.to(mean_BD) for tensor in head)
            logits.append(mean_BD @ weight_CD.mT + bias_C)
        known_BT = given.teachers.known_mask(given.labels_B)
        known_BT = None if known_BT is None else known_BT[:, self._places]
        weights_BT = confidence_weights(torch.stack(logits, dim=1), given.labels_B, known_BT)
        return self.scale * (weights_BT * torch.stack(errors, dim=1)).sum(dim=1)
