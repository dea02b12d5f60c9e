"""What the optimiser trains: the student, and what the method itself learns."""

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from collegium.config.options import Optimisation
from collegium.errors import RequestError
from collegium.models.features.hooks import FeatureHooks
from collegium.models.network import Network
from collegium.models.user_modules import rehearsed, spare
from collegium.objectives.objective import Objective, Terms
from collegium.types import Batch, Dims, StudentOutputs, TeacherOutputs
from collegium.utils.text import first_line
from collegium.weighting import AbstractWeighting

SHARE_EXAMPLES = 32
"""Examples on which the share of gradient per term is measured."""


class DistillBatch:
    """A batch and what the teachers said of it.

    No dataclass and no tuple on purpose: a wrapper for mixed precision rounds every tensor it can
    see in the arguments, and the teachers' logits must reach the losses as they are.

    Args:
        batch: one view of each example.
        answers: of the teachers that are heard.
    """

    __slots__ = ("answers", "batch")

    def __init__(self, batch: Batch, answers: TeacherOutputs) -> None:
        self.batch, self.answers = batch, answers

    def parts(self, count: int) -> "list[DistillBatch]":
        """The lesson in parts of nearly equal size, at least one example each."""
        size = -(-len(self.batch) // count)
        return [self.part(slice(at, at + size)) for at in range(0, len(self.batch), size)]

    def part(self, few: slice) -> "DistillBatch":
        """The same for some of the examples."""
        batch = self.batch
        part = Batch(
            batch.images_BDHW[few], batch.labels_B[few], batch.index_B[few], batch.view_B[few]
        )
        return DistillBatch(part, self.answers.some(few))


class DistillModule(nn.Module):
    """A student and an objective as one module, so that one wrapper synchronises both.

    Teachers are not in it: their answers come in as tensors.

    Args:
        student: the network that is trained.
        objective: of the method.
        map_layers: student layers to read beside those the objective names, shallow to deep.
        compiled_for: batch size in training that the student is compiled for; 0 for none.
    """

    def __init__(
        self,
        student: Network,
        objective: Objective,
        map_layers: tuple[str, ...] = (),
        compiled_for: int = 0,
    ) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self._hooks = FeatureHooks(student.body, map_layers, "the student")
        self._compiled_for = compiled_for
        self.idle: list[str] = []  # terms that were not 0 and moved nothing, when shares were taken
        # Kept in a list: as an attribute it would be a second child with the same parameters.
        self._compiled = [torch.compile(student, dynamic=False)] if compiled_for else []
        self.dropped = ""
        """Why the student is not compiled, though that was wanted."""

    @property
    def compiles(self) -> bool:
        """Whether the student is compiled, by its first step."""
        return bool(self._compiled)

    def forward_student(self, images_BDHW: Tensor) -> StudentOutputs:
        """Run the student and read its layers, in float32 whatever it computed in.

        Raises:
            RequestError: a term would move nothing of the student, or a layer cannot be read.
        """
        rehearsed(self._hooks, self.student, images_BDHW).forget()
        outputs = StudentOutputs(*in_float32(self._run(images_BDHW), self._hooks, len(images_BDHW)))
        if self.training:
            check_reached(self.student, self.objective, outputs)
        return outputs

    def _run(self, images_BDHW: Tensor) -> Tensor:
        full = self.training and len(images_BDHW) == self._compiled_for
        if not (self._compiled and full):
            logits_BC: Tensor = self.student(images_BDHW)
            return logits_BC
        try:
            return self._compile_backward_too(images_BDHW)
        except Exception as problem:
            if not _of_compiler(problem):
                raise
            # Nothing was computed yet: the step is done without.
            self._compiled.clear()
            self.dropped = f"not compiled: {first_line(problem)}"
            logits_BC = self.student(images_BDHW)
            return logits_BC

    def _compile_backward_too(self, images_BDHW: Tensor) -> Tensor:
        """Run the compiled student; what cannot be compiled shows before the first backward."""
        import torch._functorch.config as config

        with config.patch(force_non_lazy_backward_lowering=True):
            logits_BC: Tensor = self._compiled[0](images_BDHW)
            return logits_BC

    def forward(self, distill_batch: DistillBatch) -> tuple[Terms, Tensor, Tensor]:
        """Scaled terms (B,), weights (B, T) and the student's logits (B, C) for one batch."""
        batch, teachers = distill_batch.batch, distill_batch.answers
        student = self.forward_student(batch.images_BDHW)
        terms, weights_BT = weighted_terms(self.objective, student, teachers, batch.labels_B)
        return terms, weights_BT, student.logits_BC

    def parameter_groups(self, options: Optimisation) -> list[dict[str, Any]]:
        """Student and regressors with weight decay; the weighting at its own rate, without."""
        return groups_of(self, self.objective.weighting, options.weight_decay)

    def gradient_shares(self, distill_batch: DistillBatch) -> dict[str, float]:
        """Each term's part of the student's gradient, by norm; the parts sum to 1.

        Measured on a few examples in evaluation mode, so that no statistic of the student moves.
        """
        self.eval()
        terms, _, _ = self(distill_batch.part(slice(0, SHARE_EXAMPLES)))
        norms = {name: self._gradient_norm(term_B) for name, term_B in terms.items()}
        self.idle = [
            name
            for name, term_B in terms.items()
            if self.objective.terms[name].trains_student
            and not norms[name]
            and term_B.any()
            and not self._gradient_norm(term_B, self.objective)
        ]
        self.train()
        whole = sum(norms.values()) or 1.0
        return {name: norm / whole for name, norm in norms.items()}

    def _gradient_norm(self, term_B: Tensor, of: nn.Module | None = None) -> float:
        if not term_B.requires_grad:
            return 0.0
        parameters = [p for p in (of or self.student).parameters() if p.requires_grad]
        if not parameters:
            return 0.0
        gradients = torch.autograd.grad(
            term_B.mean(), parameters, retain_graph=True, allow_unused=True
        )
        present = [gradient.norm() for gradient in gradients if gradient is not None]
        return torch.stack(present).norm().item() if present else 0.0


def in_float32(
    logits_BC: Tensor, hooks: FeatureHooks, examples: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The outputs of a forward in float32: logits, and the layers that the hooks have read."""
    maps = {path: feature.float() for path, feature in hooks.take(examples).items()}
    return logits_BC.float(), maps


def weighted_terms(
    objective: Objective, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Tensor
) -> tuple[Terms, Tensor]:
    """Scaled terms (B,) and teacher weights (B, T), without autocast.

    Losses cost little beside the networks, and need float32's range.
    """
    with torch.autocast(student.logits_BC.device.type, enabled=False):
        weights_BT = objective.weigh(student, teachers, labels_B)
        return objective(student, teachers, labels_B, weights_BT), weights_BT


def _of_compiler(problem: Exception) -> bool:
    """Whether compiling failed, and not the network."""
    homes = ("torch._dynamo", "torch._inductor", "torch._functorch")
    return any(kind.__module__.startswith(homes) for kind in type(problem).__mro__)


def try_layers(
    student: Network,
    objective: Objective,
    layers: tuple[str, ...],
    sizes: tuple[int, ...],
    fabric: Fabric,
) -> None:
    """Read the student's layers in one training forward of a copy, before anything is written.

    Args:
        student: left as it is; nobody may read its layers yet, since a student that cannot be
            copied is tried itself and left without hooks.
        objective: with the terms that read it.
        layers: that they read.
        sizes: (B, D, H, W) of the blank views that are tried.
        fabric: of the run.

    Raises:
        RequestError: a layer cannot be read in training, or a term on it would move nothing.
    """
    if not layers:
        return
    with spare(student, "the student") as twin, fabric.autocast():
        trial = DistillModule(twin, objective, layers).train()
        trial.forward_student(torch.zeros(sizes, device=fabric.device))


def check_reached(student: nn.Module, objective: Objective, outputs: StudentOutputs) -> None:
    """Refuse to train on outputs that no gradient goes through: terms on them would move nothing.

    Raises:
        RequestError: naming the logits or the layer.
    """
    if not torch.is_grad_enabled():
        return
    if not any(parameter.requires_grad for _, parameter in student.named_parameters()):
        raise RequestError("the student has no parameter that is trained: all are frozen")
    why = (
        "(computed by frozen parameters, under no_grad, detached, or in a checkpoint with "
        "use_reentrant=True)"
    )
    if not outputs.logits_BC.requires_grad:
        raise RequestError(f"no gradient gets from the student's logits to its parameters {why}")
    for layer in objective.layers.student:
        if not outputs.maps[layer].requires_grad:
            raise RequestError(
                f"no gradient gets from layer {layer!r} of the student to its parameters {why}, so "
                "comparing it would teach nothing; use use_reentrant=False, or name another layer "
                "by hint_pairs"
            )


def student_layers(objective: Objective, dims: Dims) -> tuple[str, ...]:
    """The student layers to read, shallow to deep: those of the terms, the weighting's last."""
    wanted = set(objective.layers.student)
    if objective.weighting is not None and objective.weighting.reads_student_map:
        wanted.add(list(dims.student_maps)[-1])
    return tuple(path for path in dims.student_maps if path in wanted)


def groups_of(
    module: nn.Module, weighting: AbstractWeighting | None, weight_decay: float
) -> list[dict[str, Any]]:
    """The parameters of a module as an optimiser wants them.

    Args:
        module: holds student and objective.
        weighting: of the objective; its parameters have a group of their own, without decay.
        weight_decay: of all the others.

    Returns:
        Groups whose `rate` is what the learning rate is multiplied by.
    """
    apart = list(weighting.parameters()) if weighting else []
    own = {id(parameter) for parameter in apart}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in own]
    groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": weight_decay, "rate": 1.0}]
    if weighting and apart:
        groups.append({"params": apart, "weight_decay": 0.0, "rate": weighting.rate})
    return groups


def make_optimizer(
    module: DistillModule, options: Optimisation, fused: bool = False
) -> torch.optim.Optimizer:
    """The one optimiser of a run; fused where the device has a kernel for it."""
    groups = module.parameter_groups(options)
    for group in groups:
        group["lr"] = options.peak_lr * group["rate"]
    kinds = {parameter.device.type for parameter in module.parameters()}
    plain = all(parameter.is_floating_point() for parameter in module.parameters())
    fused = fused and plain and kinds <= {"cpu", "cuda"}
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=fused)
    nesterov = options.momentum > 0
    return torch.optim.SGD(groups, momentum=options.momentum, nesterov=nesterov, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group its multiple of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate"]
