"""The parts methods are made of: each turns outputs and weights into one value per example."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.losses import (
    angle,
    cross_entropy,
    direction_hint,
    distance,
    hint,
    match_resolution,
    soft_target,
    soften,
    unit_channels,
)
from collegium.objective import AbstractTerm, Given
from collegium.types import Layers, MapShape
from collegium.weighting import LatentWeighting
from collegium.weighting.base import generator_for


class HardLabel(AbstractTerm):
    """scale * cross entropy with the label."""

    def __init__(self, scale: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.scale, self.temperature = scale, temperature

    def forward(self, given: Given) -> Float[Tensor, " B"]:
        """Cross entropy per example."""
        return self.scale * cross_entropy(given.student.logits_BC, given.labels_B, self.temperature)


class SoftTarget(AbstractTerm):
    """scale * temperature^2 * KL(mixture of the softened teachers || softened student).

    Args:
        temperature: > 0, the same on both sides.
        scale: alpha, the weight of distillation.
        over_classes: divide by the number of classes, as `KLDivLoss()` does by default.
    """

    def __init__(self, temperature: float, scale: float, over_classes: bool = False) -> None:
        super().__init__()
        self.temperature, self.scale, self.over_classes = temperature, scale, over_classes

    def forward(self, given: Given) -> Float[Tensor, " B"]:
        """One KL to the one integrated target; learned weights get their gradient here."""
        target_BC = given.target(self.temperature)
        kl_B = soft_target(target_BC, given.student.logits_BC, self.temperature)
        classes = given.student.logits_BC.shape[1]
        return self.scale / (classes if self.over_classes else 1) * kl_B


Relation = Literal["angle", "distance"]
RelationInput = Literal["probs", "logits", "log_probs"]


class RelationToTarget(AbstractTerm):
    """scale * RKD between the student's outputs and the integrated target.

    Args:
        relation: angles of triples or distances of pairs.
        temperature: of the target and, softened, of the student.
        scale: its weight.
        student_side: what stands for the student; with "probs" a perfect student has loss 0.
        until: part of the epochs in which the term counts.
    """

    def __init__(
        self,
        relation: Relation,
        temperature: float,
        scale: float,
        student_side: RelationInput = "probs",
        until: float = 1.0,
    ) -> None:
        super().__init__()
        self.relation = {"angle": angle, "distance": distance}[relation]
        self.temperature, self.scale, self.until = temperature, scale, until
        self.student_side = student_side

    def forward(self, given: Given) -> Float[Tensor, " B"]:
        """The target carries no gradient: relations teach the student, not the weights."""
        target_BC = given.target(self.temperature).detach()
        return self.scale * self.relation(self._embed(given.student.logits_BC), target_BC)

    def _embed(self, logits_BC: Tensor) -> Tensor:
        if self.student_side == "logits":
            return logits_BC
        if self.student_side == "probs":
            return soften(logits_BC, self.temperature)
        return torch.log_softmax(logits_BC / self.temperature, dim=1)


HintNorm = Literal["channel_out", "channel_in", "none"]


class Hint(AbstractTerm):
    """scale * (regressor(student map) - teacher map)^2: one teacher's hint to one student layer.

    The larger map is average-pooled to the smaller one, then a 1x1 convolution brings the
    student's channels to the teacher's.

    Args:
        student_layer: module path in the student, and its shape.
        teacher: whose hint it is.
        teacher_layer: module path in the teacher, and its shape.
        scale: its weight.
        norm: "channel_out" compares directions (both maps of unit length over channels after the
            regressor, error summed over channels: 2 - 2 cos); "channel_in" normalises before a
            regressor without bias, as the authors do; "none" is FitNets' plain squared error.
        pooled: compare every position with the teacher's mean over positions.
        trained: whether the regressor learns.
        until: part of the epochs in which the term counts.
        seed: of the regressor's start, which belongs to the teacher's name.
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
    ) -> None:
        super().__init__()
        (self.student_path, student_shape), self.teacher = student_layer, teacher
        self.teacher_path, teacher_shape = teacher_layer
        self.layers = Layers((self.student_path,), {teacher: (self.teacher_path,)})
        self.scale, self.norm, self.pooled, self.until = scale, norm, pooled, until
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
        """The hint's error per example; the weights of the teachers do not enter."""
        return self.scale * self.error(
            given.student.maps[self.student_path],
            given.teachers.maps[self.teacher][self.teacher_path],
        )

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


class AdapterL2(AbstractTerm):
    """scale * (|v|^2 + sum over teachers of |theta_t|^2), repeated for every example."""

    def __init__(self, weighting: LatentWeighting, scale: float, until: float = 1.0) -> None:
        super().__init__()
        # In a tuple, so that the weighting is not registered (and saved) a second time.
        self._weighting, self.scale, self.until = (weighting,), scale, until

    def forward(self, given: Given) -> Float[Tensor, " B"]:
        """A penalty on parameters has one value; every example carries it."""
        (weighting,) = self._weighting
        penalty = weighting.v_D.square().sum() + weighting.theta_TD.square().sum()
        return (self.scale * penalty).expand(len(given.labels_B))


class MixtureLabel(AbstractTerm):
    """scale * -log of what the mixture gives the true class: a label signal for the weights."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, given: Given) -> Float[Tensor, " B"]:
        """Trains the weighting alone; the student does not enter."""
        target_BC = given.target(temperature=1.0)
        true_B = target_BC.gather(1, given.labels_B[:, None]).squeeze(1)
        return -self.scale * true_B.clamp_min(torch.finfo(true_B.dtype).tiny).log()
