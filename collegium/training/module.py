"""The module that the optimiser trains: the student and the method's own parameters."""

from typing import Any

import torch
from torch import Tensor, nn

from collegium.config.options import Optimisation
from collegium.errors import RequestError
from collegium.models.features.hooks import FeatureHooks
from collegium.models.network import Network
from collegium.models.user_modules import rehearsed
from collegium.objectives.objective import Objective, Terms
from collegium.types import Batch, Dims, StudentOutputs, TeacherOutputs
from collegium.utils.text import first_line
from collegium.weighting import AbstractWeighting

SHARE_EXAMPLES = 32
"""Number of examples used to measure each term's share of the gradient."""


class DistillBatch:
    """A batch and the active teachers' outputs for it.

    This is deliberately neither a dataclass nor a tuple. Fabric's wrapper for mixed precision
    rounds every tensor that it finds in the arguments, and the teachers' logits must reach the
    losses unrounded.

    Args:
        batch: one view of each example.
        outputs: the outputs of the active teachers.
    """

    __slots__ = ("batch", "outputs")

    def __init__(self, batch: Batch, outputs: TeacherOutputs) -> None:
        self.batch, self.outputs = batch, outputs

    def parts(self, count: int) -> "list[DistillBatch]":
        """Split into at most `count` parts of nearly equal size, at least one example each."""
        size = -(-len(self.batch) // count)
        return [self.part(slice(at, at + size)) for at in range(0, len(self.batch), size)]

    def part(self, few: slice) -> "DistillBatch":
        """The same for a slice of the examples."""
        batch = self.batch
        part = Batch(
            batch.images_BDHW[few], batch.labels_B[few], batch.index_B[few], batch.view_B[few]
        )
        return DistillBatch(part, self.outputs.some(few))


class DistillModule(nn.Module):
    """Student and objective in one module, so that one DDP wrapper synchronises both.

    The teachers are not part of it: it receives their outputs as tensors.

    Args:
        student: the network that is trained.
        objective: the objective of the method.
        map_layers: all student layers to read, shallow to deep, see `student_layers`.
        compiled_for: the training batch size to compile the student for; 0 to not compile it.
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
        self.idle: list[str] = []  # terms that were not 0 but had no gradient, when last measured
        # In a list: an attribute would be a second child module with the same parameters.
        self._compiled = [torch.compile(student, dynamic=False)] if compiled_for else []
        self.dropped = ""
        """Why the student is not compiled although it was requested; empty otherwise."""

    @property
    def compiles(self) -> bool:
        """Whether the student is compiled; the first step does the compilation."""
        return bool(self._compiled)

    def forward_student(self, images_BDHW: Tensor) -> StudentOutputs:
        """Run the student and read its layers; the outputs are float32 in any precision.

        Raises:
            RequestError: a term has no gradient into the student, or a layer cannot be read.
        """
        rehearsed(self._hooks, self.student, images_BDHW).forget()
        outputs = StudentOutputs(*in_float32(self._run(images_BDHW), self._hooks, len(images_BDHW)))
        if self.training:
            check_reached(self.student, self.objective, outputs)
        return outputs

    def _run(self, images_BDHW: Tensor) -> Tensor:
        if self._compiled and self.training and len(images_BDHW) == self._compiled_for:
            try:
                return self._compile_backward_too(images_BDHW)
            except Exception as problem:
                if not _of_compiler(problem):
                    raise
                # The step has computed nothing yet, so it can run uncompiled.
                self._compiled.clear()
                self.dropped = f"not compiled: {first_line(problem)}"
        return self.student(images_BDHW)

    def _compile_backward_too(self, images_BDHW: Tensor) -> Tensor:
        """Run the compiled student; it raises now if its backward cannot be compiled."""
        import torch._functorch.config as config

        with config.patch(force_non_lazy_backward_lowering=True):
            return self._compiled[0](images_BDHW)

    def forward(self, distill_batch: DistillBatch) -> tuple[Terms, Tensor, Tensor]:
        """Scaled terms (B,), weights (B, T) and the student's logits (B, C) for one batch."""
        batch, teachers = distill_batch.batch, distill_batch.outputs
        student = self.forward_student(batch.images_BDHW)
        terms, weights_BT = weighted_terms(self.objective, student, teachers, batch.labels_B)
        return terms, weights_BT, student.logits_BC

    def gradient_shares(self, distill_batch: DistillBatch) -> dict[str, float]:
        """Each term's share of the student's gradient norm; the shares sum to 1.

        Uses `SHARE_EXAMPLES` examples in evaluation mode, so that no running statistic of the
        student changes.
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
    """The outputs of a forward pass in float32: logits, and the features that the hooks read."""
    maps = {path: feature.float() for path, feature in hooks.take(examples).items()}
    return logits_BC.float(), maps


def weighted_terms(
    objective: Objective, student: StudentOutputs, teachers: TeacherOutputs, labels_B: Tensor
) -> tuple[Terms, Tensor]:
    """Scaled terms (B,) and teacher weights (B, T), without autocast.

    The losses need float32's range, and cost little compared with the networks.
    """
    with torch.autocast(student.logits_BC.device.type, enabled=False):
        weights_BT = objective.weigh(student, teachers, labels_B)
        return objective(student, teachers, labels_B, weights_BT), weights_BT


def _of_compiler(problem: Exception) -> bool:
    """Whether the error comes from the compiler and not from the network."""
    homes = ("torch._dynamo", "torch._inductor", "torch._functorch")
    return any(kind.__module__.startswith(homes) for kind in type(problem).__mro__)


def check_reached(student: nn.Module, objective: Objective, outputs: StudentOutputs) -> None:
    """Check that gradients flow from the student's outputs to its parameters.

    Raises:
        RequestError: all parameters are frozen, or the logits or a layer (named in the message)
            have no gradient.
    """
    if not torch.is_grad_enabled():
        return
    if not any(parameter.requires_grad for _, parameter in student.named_parameters()):
        raise RequestError("the student has no parameter that is trained: all are frozen")
    why = "(frozen parameters, no_grad, detach, or a checkpoint with use_reentrant=True)"
    if not outputs.logits_BC.requires_grad:
        raise RequestError(f"no gradient gets from the student's logits to its parameters {why}")
    for layer in objective.layers.student:
        if not outputs.maps[layer].requires_grad:
            raise RequestError(
                f"no gradient gets from layer {layer!r} of the student to its parameters {why}; "
                "use use_reentrant=False, or name another layer by hint_pairs"
            )


def student_layers(objective: Objective, dims: Dims) -> tuple[str, ...]:
    """The student layers to read, shallow to deep.

    These are the layers of the terms, and the deepest one if the weighting reads a student layer.
    """
    wanted = set(objective.layers.student)
    if objective.weighting is not None and objective.weighting.reads_student_map:
        wanted.add(list(dims.student_maps)[-1])
    return tuple(path for path in dims.student_maps if path in wanted)


def groups_of(
    module: nn.Module, weighting: AbstractWeighting | None, lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """The parameters of a module as parameter groups for an optimiser.

    Args:
        module: the module that holds student and objective.
        weighting: the objective's weighting; its parameters form a group without weight decay.
        lr: learning rate of the student; that of the weighting is a multiple of it.
        weight_decay: weight decay of all other parameters.

    Returns:
        The groups; the key `rate` of each is the multiple.
    """
    apart = list(weighting.parameters()) if weighting else []
    own = {id(parameter) for parameter in apart}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in own]
    groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": weight_decay, "rate": 1.0}]
    if weighting and apart:
        groups.append({"params": apart, "weight_decay": 0.0, "rate": weighting.rate})
    return [group | {"lr": lr * group["rate"]} for group in groups]


def make_optimizer(
    module: DistillModule, options: Optimisation, fused: bool = False
) -> torch.optim.Optimizer:
    """The optimiser of a run; `fused` takes effect only on devices with a fused kernel."""
    weighting = module.objective.weighting
    groups = groups_of(module, weighting, options.peak_lr, options.weight_decay)
    kinds = {parameter.device.type for parameter in module.parameters()}
    plain = all(parameter.is_floating_point() for parameter in module.parameters())
    fused = fused and plain and kinds <= {"cpu", "cuda"}
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=fused)
    nesterov = options.momentum > 0
    return torch.optim.SGD(groups, momentum=options.momentum, nesterov=nesterov, fused=fused)
