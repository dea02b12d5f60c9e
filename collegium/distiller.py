"""Student, teachers and method as one module, for a training loop of your own.

    distiller = cg.Distiller(student, {"a": net_a, "b": net_b}, cg.AMTML(), image_shape=(3, 32, 32))
    optimizer = torch.optim.SGD(distiller.parameter_groups(lr=0.05), momentum=0.9)
    ...
    distiller(images, labels).loss.backward()

`distill` does the rest too: views, records, checkpoints, stores. This is for loops that have them.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.errors import RequestError
from collegium.methods.base import AbstractMethod, check_parts
from collegium.models.features.discover import survey
from collegium.models.features.hooks import FeatureHooks
from collegium.models.features.pairing import explicit_layers
from collegium.models.features.trace import watch
from collegium.models.network import Network, body_of
from collegium.models.outputs import describe_output, logits_of
from collegium.models.user_modules import (
    PARALLEL,
    blank,
    check_tensors,
    copied,
    evaluating,
    first_tensor,
    freeze_module,
    rehearsed,
    spare,
    uncompiled,
    unwrapped,
)
from collegium.objectives.objective import Terms, class_numbers, total
from collegium.teachers.ensemble import linear_head
from collegium.training.module import (
    check_reached,
    groups_of,
    in_float32,
    student_layers,
    weighted_terms,
)
from collegium.types import Dims, MapShape, StudentOutputs, TeacherOutputs
from collegium.utils.text import first_line
from collegium.utils.torch_state import as_ever


@dataclass(frozen=True)
class DistillerOutputs:
    """What a `Distiller` gives for one batch.

    Attributes:
        terms: every term of the method by name, scaled, one value per example (B,).
        weights_BT: what each teacher got of each example; (B, 0) where no teacher is heard.
        logits_BC: of the student.
    """

    terms: Terms
    weights_BT: Float[Tensor, "B T"]
    logits_BC: Float[Tensor, "B C"]

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The loss to go down: the sum of the terms, meaned over the batch."""
        return total(self.terms)


class Distiller(nn.Module):
    """A student that is taught, in whatever loop trains it.

    Its parameters and its `state_dict()` are the student's and what the method itself learns.
    Teachers are copied, frozen and in evaluation mode for good; of the calls on this module they
    follow `to()` and the like alone.

    Args:
        student: gives logits (B, C), or an object with `logits`; trained in place, as `.student`.
        teachers: by name; each is given the very images the student is, so one that wants another
            normalisation is wrapped in a module that converts them.
        method: whom to hear and what to compare, like `cg.AMTML()`.
        image_shape: channels, rows and columns of the images.
        seed: what the method's own parameters are drawn from.

    Raises:
        RequestError: a teacher of other classes, a method without the teachers or layers it needs,
            a student wrapped by DataParallel (wrap the distiller instead) or that cannot learn,
            tensors without numbers.
    """

    @as_ever
    def __init__(
        self,
        student: nn.Module,
        teachers: Mapping[str, nn.Module],
        method: AbstractMethod,
        image_shape: MapShape,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_parts(teachers, method, "modules")
        _check_sizes(image_shape)
        if method.uses_teachers and not teachers:
            raise RequestError(f"method {method.slug} uses teachers and none was given")
        self.student = student = _checked(student, image_shape)
        method = method.resolve_teachers(tuple(teachers), {})
        # No modules of this one: train(), parameters() and state_dict() must not reach them.
        self._teachers = {
            name: _frozen(name, teachers[name], image_shape)
            for name in method.active_teachers(tuple(teachers))
        }
        dims = _dims(student, self._teachers, image_shape, method.requested_pairs(), seed)
        self.objective = method.build(dims)
        self._classes = dims.classes
        read = self.objective.layers.teachers
        self._hooks = _hooks(student, student_layers(self.objective, dims), "the student")
        self._teacher_hooks = {
            name: _hooks(teacher, read.get(name, ()), f"teacher {name}")
            for name, teacher in self._teachers.items()
        }
        found = first_tensor(student)
        self.to(None if found is None else found.device)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Who is heard, in the order of the T axis of `weights_BT`."""
        return tuple(self._teachers)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Epoch `epoch` (from 0) of `epochs` begins: how a method learns what time it is."""
        self.objective.start_epoch(epoch, epochs)

    def parameter_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """What an optimiser trains: learned weights at their own rate and without weight decay.

        Args:
            lr: of the student; what the method learns has a multiple of it.
            weight_decay: of the student and of hint regressors.
        """
        groups = groups_of(self, self.objective.weighting, weight_decay)
        for group in groups:
            group["lr"] = lr * group.pop("rate")
        return groups

    def forward(self, images_BDHW: Float[Tensor, "B D H W"], labels_B: Tensor) -> DistillerOutputs:
        """One batch, heard by student and teachers; in training mode or in evaluation mode.

        Args:
            images_BDHW: what student and teachers are given; nobody changes them.
            labels_B: one class number for each.

        Raises:
            RequestError: labels that are not that (floats, rows, a class there is not), a term that
                would move nothing of the student, or a layer that cannot be read.
        """
        student = self._forward_student(images_BDHW)
        labels_B = class_numbers(labels_B, student.logits_BC)
        teachers = self.ask(images_BDHW)
        terms, weights_BT = weighted_terms(self.objective, student, teachers, labels_B)
        return DistillerOutputs(terms, weights_BT, student.logits_BC)

    def _forward_student(self, images_BDHW: Tensor) -> StudentOutputs:
        student = StudentOutputs(*_read(self.student, self._hooks, images_BDHW, "the student"))
        # Somebody's own loop may freeze the whole student, to train what the method learns.
        if any(parameter.requires_grad for _, parameter in self.student.named_parameters()):
            check_reached(self.student, self.objective, student)
        return student

    @torch.no_grad()
    def ask(self, images_BDHW: Float[Tensor, "B D H W"]) -> TeacherOutputs:
        """What the teachers say of some images."""
        said = {
            name: _read(teacher, self._teacher_hooks[name], images_BDHW, f"of teacher {name}")
            for name, teacher in self._teachers.items()
        }
        if not said:
            return TeacherOutputs(images_BDHW.new_empty(len(images_BDHW), 0, self._classes))
        logits_BTC = torch.stack([logits_BC for logits_BC, _ in said.values()], dim=1)
        return TeacherOutputs(logits_BTC, {name: maps for name, (_, maps) in said.items() if maps})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Distiller":
        for network in (self.student, *self._teachers.values()):
            network._apply(fn)  # torch gives no more than this to a part, so some take no more
        # Losses need float32's range, and what they learn its steps.
        self.objective._apply(lambda tensor: _wide(fn(tensor), tensor))
        return self


def _wide(moved: Tensor, tensor: Tensor) -> Tensor:
    """What became of a tensor, in the type that it had: of other types only the place is taken."""
    return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)


def _check_sizes(image_shape: object) -> None:
    sizes = tuple(image_shape) if isinstance(image_shape, Sequence) else ()
    if len(sizes) != 3 or not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
        raise RequestError(
            f"image_shape is {image_shape}, expected channels, rows and columns, as (3, 32, 32)"
        )


def _check_gives(network: nn.Module, image_shape: MapShape, whose: str) -> Tensor:
    """The logits (2, C) of blank images."""
    try:
        logits_BC = logits_of(network(blank(network, image_shape, count=2)), whose)
    except RequestError:
        raise
    except Exception as error:  # Whatever a user's forward raises.
        size = "x".join(map(str, image_shape))
        raise RequestError(
            f"{whose} cannot take an image of {size}: {first_line(error)}"
        ) from error
    if logits_BC.ndim != 2 or len(logits_BC) != 2:
        raise RequestError(
            f"{whose} gives {tuple(logits_BC.shape)} for 2 images, expected logits (2, C)"
        )
    return logits_BC


def _checked(student: nn.Module, image_shape: MapShape) -> nn.Module:
    """The student itself, without wrappers that only change how it is called."""
    if isinstance(student, PARALLEL):
        raise RequestError(
            f"the student is wrapped by {type(student).__name__}, which layers cannot be read "
            f"through: wrap the distiller, {type(student).__name__}(Distiller(...))"
        )
    student, _ = unwrapped(student)
    check_tensors(student, "the student", trainable=True)
    _check_learns(student, image_shape)
    return student


def _check_learns(student: nn.Module, image_shape: MapShape) -> None:
    """Refuse a student whose gradient is cut off, by int8 layers or `no_grad`."""
    # On a copy: a network may keep what this computes, and could not be copied any more.
    with torch.enable_grad(), spare(student, "the student") as twin, evaluating(twin):
        logits_BC = _check_gives(twin, image_shape, "the student")
    if not logits_BC.requires_grad and any(p.requires_grad for _, p in student.named_parameters()):
        raise RequestError(
            "the student cannot learn: its logits carry no gradient; leave out no_grad(), "
            "detach() and int8 layers"
        )


def _frozen(name: str, teacher: nn.Module, image_shape: MapShape) -> nn.Module:
    whose = f"teacher {name}"
    teacher, _ = unwrapped(teacher)
    check_tensors(teacher, whose, trainable=False)
    frozen = freeze_module(copied(teacher, whose))
    with torch.no_grad():
        _check_gives(frozen, image_shape, whose)
    return frozen


def _hooks(network: nn.Module, layers: Sequence[str], whose: str) -> FeatureHooks:
    """Hooks that are there during a forward alone.

    So that the network can be copied, pickled, scripted and used as ever between two batches.
    """
    with uncompiled(network):  # layers have the names that they have without
        hooks = FeatureHooks(body_of(network), layers, whose)
    hooks.close()
    return hooks


def _read(
    network: nn.Module, hooks: FeatureHooks, images_BDHW: Tensor, whose: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and layers in float32."""
    images_BDHW = _own(network, images_BDHW)
    # Compiled code does not know of later hooks.
    plain = uncompiled(network) if hooks.layers else contextlib.nullcontext()
    with plain, hooks:
        rehearsed(hooks, network, images_BDHW)
        logits_BC = logits_of(network(images_BDHW), whose, network.training)
        return in_float32(logits_BC, hooks, len(images_BDHW))


def _own(network: nn.Module, images_BDHW: Tensor) -> Tensor:
    """A copy of the images, since a network may change its input in place.

    A copy costs less than a thousandth of a forward; a `Network` makes one itself.
    """
    if not isinstance(images_BDHW, Tensor) or images_BDHW.ndim != 4:
        gave = describe_output(images_BDHW)
        raise RequestError(f"images are {gave}, expected a tensor (B, D, H, W)")
    found = first_tensor(network)
    floating = images_BDHW.is_floating_point()
    if found is not None and floating and not torch.is_autocast_enabled(images_BDHW.device.type):
        images_BDHW = images_BDHW.to(found.dtype)
    return images_BDHW if type(network) is Network else images_BDHW.clone()


def _dims(
    student: nn.Module,
    teachers: Mapping[str, nn.Module],
    image_shape: MapShape,
    pairs: Sequence[str],
    seed: int,
) -> Dims:
    """Names and shapes, by blank images through every network."""
    asked, asked_of = explicit_layers(pairs, tuple(teachers))
    classes = watch(student, image_shape)[1]
    for name, teacher in teachers.items():
        if (theirs := watch(teacher, image_shape)[1]) != classes:
            raise RequestError(
                f"teacher {name} knows {theirs} classes, the student {classes}; wrap it in a "
                "module that gives the student's, or use collegium.distill(labels=...)"
            )
    maps = {
        name: survey(teacher, image_shape, asked_of.get(name, ()), f"teacher {name}")
        for name, teacher in teachers.items()
    }
    noise_BDHW = torch.rand(8, *image_shape, generator=torch.Generator().manual_seed(0))
    heads = {name: linear_head(teachers[name], maps[name], noise_BDHW) for name in teachers}
    return Dims(
        classes,
        tuple(teachers),
        survey(student, image_shape, asked, "the student"),
        maps,
        seed,
        {name: head for name, head in heads.items() if head is not None},
    )
