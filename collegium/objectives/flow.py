"""The term of FSP: flows between two layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.losses import flow, flow_error
from collegium.models.features.layer_names import flow_between
from collegium.objectives.hints import share
from collegium.objectives.objective import AbstractTerm, TermInputs
from collegium.types import HintPair, Layers, MapShape
from collegium.weighting.base import generator_for


class Flow(AbstractTerm):
    """scale * the teacher's weight * the squared difference of the flows between two layers.

    Where channels differ, a trained 1x1 convolution maps the student's to the teacher's.

    Args:
        student: two layers, each a name and its shape.
        teacher: name of the teacher.
        theirs: the teacher's two layers.
        scale: its weight.
        place: index of the teacher among the active ones.
        seed: of the convolutions' initial weights.
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
        self._student_flow = _StudentFlow(*self.own)
        pairs = zip(self.own, self.theirs, strict=True)
        # Only the flow is compared, so a store keeps the flow where it is smaller than the maps.
        self._teacher_flow = flow_between(*self.theirs)
        (_, (_, rows, columns)), (_, (channels, _, _)) = theirs
        less = channels < rows * columns and not any("+" in path for path in self.theirs)
        self.layers = Layers(
            tuple(self.own),
            {teacher: (self._teacher_flow,) if less else tuple(self.theirs)},
            tuple(HintPair(own, teacher, path) for own, path in pairs),
        )
        shapes = zip(student, theirs, strict=True)
        self.regressors = nn.ModuleList(
            _to_channels(own[0], target[0], f"{teacher}/{path}/flow", seed)
            for (path, own), (_, target) in shapes
        )

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """One value per example."""
        first, second = self.regressors
        # 1x1 convolutions without bias commute with means and products over positions.
        own_BDE = _carried(given.cached(self._student_flow), first, second)
        target_BDE = self._target(given.teachers.maps[self.teacher])
        return self.scale * share(given, self.place) * flow_error(own_BDE, target_BDE)

    def _target(self, maps: Mapping[str, Tensor]) -> Tensor:
        """The teacher's flow, given or computed from its maps."""
        if self._teacher_flow in maps:
            return maps[self._teacher_flow][..., 0].contiguous()  # the same sums live and stored
        return flow(*(maps[path].detach() for path in self.theirs))


@dataclass(frozen=True)
class _StudentFlow:
    """The flow between two layers of the student."""

    first: str
    second: str

    def __call__(self, given: TermInputs) -> Tensor:
        return flow(given.student.maps[self.first], given.student.maps[self.second])


def _carried(flow_BDE: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    """The flow between two layers after the regressor of each."""
    if isinstance(first, nn.Conv2d):
        flow_BDE = first.weight[:, :, 0, 0] @ flow_BDE
    if isinstance(second, nn.Conv2d):
        flow_BDE = flow_BDE @ second.weight[:, :, 0, 0].mT
    return flow_BDE


def _to_channels(own: int, target: int, name: str, seed: int) -> nn.Module:
    if own == target:
        return nn.Identity()
    convolution = nn.Conv2d(own, target, kernel_size=1, bias=False)
    with torch.no_grad():
        convolution.weight.uniform_(
            -((3 / own) ** 0.5), (3 / own) ** 0.5, generator=generator_for(name, seed)
        )
    return convolution
