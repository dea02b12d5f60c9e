"""What the optimiser trains: the student, and what the method itself learns."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from collegium.models.network import Network
from collegium.models.taps import Taps
from collegium.objective import Objective, Terms
from collegium.training.options import Optimisation
from collegium.types import Batch, StudentOutputs, TeacherOutputs

SHARE_EXAMPLES = 32
"""Examples on which the share of gradient per term is measured."""


class Learner(nn.Module):
    """A student and an objective as one module, so that one wrapper synchronises both.

    Teachers are not in it: their answers come in as tensors.

    Args:
        student: the network that is trained.
        objective: of the method.
        map_layers: student layers to read beside those the objective names, shallow to deep.
    """

    def __init__(
        self, student: Network, objective: Objective, map_layers: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self._taps = Taps(student.body, map_layers)

    def observe(self, images_BDHW: Tensor) -> StudentOutputs:
        """Run the student and read its layers, in float32 whatever it computed in."""
        logits_BC = self.student(images_BDHW)
        maps = {path: feature.float() for path, feature in self._taps.take().items()}
        return StudentOutputs(logits_BC.float(), maps)

    def forward(
        self,
        images_BDHW: Tensor,
        labels_B: Tensor,
        teacher_logits_BTC: Tensor,
        teacher_maps: Mapping[str, Mapping[str, Tensor]],
    ) -> tuple[Terms, Tensor, Tensor]:
        """Scaled terms (B,), weights (B, T) and the student's logits (B, C) for one batch.

        Takes and gives plain tensors in plain containers: wrappers for precision and for several
        processes look into them.
        """
        student = self.observe(images_BDHW)
        teachers = TeacherOutputs(teacher_logits_BTC, teacher_maps)
        # Losses are small next to the networks and need float32's range.
        with torch.autocast(images_BDHW.device.type, enabled=False):
            weights_BT = self.objective.weigh(student, teachers, labels_B)
            terms = self.objective(student, teachers, labels_B, weights_BT)
        return terms, weights_BT, student.logits_BC

    def parameter_groups(self, options: Optimisation) -> list[dict[str, object]]:
        """Student and regressors with weight decay; the weighting at its own rate, without."""
        weighting = self.objective.weighting
        apart = list(weighting.parameters()) if weighting else []
        own = {id(parameter) for parameter in apart}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        groups: list[dict[str, object]] = [
            {"params": rest, "weight_decay": options.weight_decay, "rate": 1.0}
        ]
        if weighting and apart:
            groups.append({"params": apart, "weight_decay": 0.0, "rate": weighting.rate})
        return groups

    def gradient_shares(self, batch: Batch, teachers: TeacherOutputs) -> dict[str, float]:
        """Each term's part of the student's gradient, by norm; the parts sum to 1.

        Measured on a few examples in evaluation mode, so that no statistic of the student moves.
        """
        few = slice(0, SHARE_EXAMPLES)
        maps = {
            name: {path: feature[few] for path, feature in layers.items()}
            for name, layers in teachers.maps.items()
        }
        self.eval()
        terms, _, _ = self(
            batch.images_BDHW[few], batch.labels_B[few], teachers.logits_BTC[few], maps
        )
        norms = {name: self._gradient_norm(term_B) for name, term_B in terms.items()}
        self.train()
        whole = sum(norms.values()) or 1.0
        return {name: norm / whole for name, norm in norms.items()}

    def _gradient_norm(self, term_B: Tensor) -> float:
        if not term_B.requires_grad:
            return 0.0
        parameters = [p for p in self.student.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(
            term_B.mean(), parameters, retain_graph=True, allow_unused=True
        )
        present = [gradient.norm() for gradient in gradients if gradient is not None]
        return torch.stack(present).norm().item() if present else 0.0


def make_optimizer(learner: Learner, options: Optimisation) -> torch.optim.Optimizer:
    """The one optimiser of a run."""
    groups = learner.parameter_groups(options)
    for group in groups:
        group["lr"] = options.peak_lr * float(str(group["rate"]))
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    nesterov = options.momentum > 0
    return torch.optim.SGD(groups, momentum=options.momentum, nesterov=nesterov)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group its multiple of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate"]
