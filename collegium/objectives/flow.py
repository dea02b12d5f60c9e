"""The term of FSP: flows between two layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from collegium.losses import flow, flow_error
from collegium.models.features.layer_names import flow_between
from collegium.objectives.hints import make_regressor, share
from collegium.objectives.objective import AbstractTerm, TermInputs
from collegium.types import Dims, HintPair, Layers
from collegium.weighting.base import generator_for


class Flow(AbstractTerm):
    """scale * the teacher's weight * the squared difference of the flows between two layers.

    Where channels differ, a trained 1x1 convolution maps the student's to the teacher's.

    Args:
        teacher: its name.
        pairs: two pairs of a student layer and one of the teacher's.
        dims: shapes of all networks, and the seed of the convolutions' initial weights.
        scale: its weight.
    """

    def __init__(
        self, teacher: str, pairs: Sequence[tuple[str, str]], dims: Dims, scale: float
    ) -> None:
        super().__init__()
        self.own, self.theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        self.teacher, self.scale, self.place = teacher, scale, dims.teachers.index(teacher)
        self._student_flow = _StudentFlow(*self.own)
        # Only the flow is compared, so a store keeps the flow where it is smaller than the maps.
        self._teacher_flow = flow_between(*self.theirs)
        shapes = dims.teacher_maps[teacher]
        (_, rows, columns), (channels, _, _) = (shapes[path] for path in self.theirs)
        less = channels < rows * columns and not any("+" in path for path in self.theirs)
        self.layers = Layers(
            tuple(self.own),
            {teacher: (self._teacher_flow,) if less else tuple(self.theirs)},
            tuple(HintPair(own, teacher, path) for own, path in pairs),
        )
        self.regressors = nn.ModuleList(self._regressor(dims, *pair) for pair in pairs)

    def _regressor(self, dims: Dims, own: str, theirs: str) -> nn.Module:
        channels, target = dims.student_maps[own][0], dims.teacher_maps[self.teacher][theirs][0]
        if channels == target:
            return nn.Identity()
        generator = generator_for(f"{self.teacher}/{own}/flow", dims.seed)
        return make_regressor(channels, target, generator, bias=False)

    def forward(self, given: TermInputs) -> Float[Tensor, " B"]:
        """One value per example."""
        first, second = self.regressors
        # 1x1 convolutions without bias commute with means and products over positions.
        own_BDE = given.cached(self._student_flow)
        if isinstance(first, nn.Conv2d):
            own_BDE = first.weight[:, :, 0, 0] @ own_BDE
        if isinstance(second, nn.Conv2d):
            own_BDE = own_BDE @ second.weight[:, :, 0, 0].mT
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
