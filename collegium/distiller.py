"""`Distiller`: student, teachers and method in one module, for your own training loop.

    distiller = cg.Distiller(student, {"a": net_a, "b": net_b}, cg.AMTML(), image_shape=(3, 32, 32))
    optimizer = torch.optim.SGD(distiller.parameter_groups(lr=0.05), momentum=0.9)
    ...
    distiller(images, labels).loss.backward()

`distill` also does augmentation, records, checkpoints and stores. Use `Distiller` if your loop has
its own.
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
from collegium.models.network import Network, body_of
from collegium.models.outputs import describe_output, logits_of
from collegium.models.user_modules import (
    PARALLEL,
    blank,
    check_tensors,
    copied,
    evaluating,
    first_tensor,
    freeze,
    rehearsed,
    spare,
    uncompiled,
    unwrapped,
)
from collegium.objectives.objective import Terms, total
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
    """The outputs of a `Distiller` for one batch.

    Attributes:
        terms: every term of the method by name, scaled, one value per example (B,).
        weights_BT: each teacher's weight for each example; (B, 0) if no teacher is active.
        logits_BC: logits of the student.
    """

    terms: Terms
    weights_BT: Float[Tensor, "B T"]
    logits_BC: Float[Tensor, "B C"]

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The loss to minimise: the sum of the terms, averaged over the batch."""
        return total(self.terms)


class Distiller(nn.Module):
    """Distils a student from teachers in any training loop.

    Its parameters and `state_dict()` contain those of the student and of the method. The teachers
    are copies that stay frozen and in evaluation mode. Of the calls on this module, only `to()` and
    similar ones (`cuda`, `half`) affect them.

    Args:
        student: returns logits (B, C) or an object with `logits`; trained in place, as `.student`.
        teachers: networks by name. Each gets the same images as the student; wrap a teacher that
            needs another normalisation in a module that converts them.
        method: the method, for example `cg.AMTML()`.
        image_shape: channels, rows and columns of the images.
        seed: seed for the initial values of the method's parameters.

    Raises:
        RequestError: a teacher has other classes, the method lacks teachers or layers it needs,
            the student is wrapped by DataParallel (wrap the distiller instead) or cannot learn,
            or a network has tensors without values.
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
        student, self._classes = _checked(student, image_shape)
        self.student = student
        method = method.resolve_teachers(tuple(teachers), {})
        # Not registered as submodules: train(), parameters() and state_dict() must skip them.
        self._teachers = {
            name: _frozen(name, teachers[name], image_shape, self._classes)
            for name in method.active_teachers(tuple(teachers))
        }
        dims = _dims(self, image_shape, method.requested_pairs(), seed)
        self.objective = method.build(dims)
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
        """Names of the active teachers, in the order of the T axis of `weights_BT`."""
        return tuple(self._teachers)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Announce the start of epoch `epoch` (from 0) of `epochs`; methods can depend on it."""
        self.objective.start_epoch(epoch, epochs)

    def parameter_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Parameter groups for an optimiser.

        The weighting's parameters have their own learning rate and no weight decay.

        Args:
            lr: learning rate of the student; the weighting's is a multiple of it.
            weight_decay: weight decay of the student and of hint regressors.
        """
        groups = groups_of(self, self.objective.weighting, lr, weight_decay)
        return [{key: group[key] for key in ("params", "weight_decay", "lr")} for group in groups]

    def forward(self, images_BDHW: Float[Tensor, "B D H W"], labels_B: Tensor) -> DistillerOutputs:
        """Run student and teachers on a batch; works in training and in evaluation mode.

        Args:
            images_BDHW: images for student and teachers; not changed.
            labels_B: the class number of each image.

        Raises:
            RequestError: the labels are no class numbers (floats, rows, or a class out of range), a
                term has no gradient into the student, or a layer cannot be read.
        """
        student = StudentOutputs(*_read(self.student, self._hooks, images_BDHW, "the student"))
        # A loop may freeze the student for a while, to train only the method's parameters.
        if any(parameter.requires_grad for _, parameter in self.student.named_parameters()):
            check_reached(self.student, self.objective, student)
        teachers = self.ask(images_BDHW)
        terms, weights_BT = weighted_terms(self.objective, student, teachers, labels_B)
        return DistillerOutputs(terms, weights_BT, student.logits_BC)

    @torch.no_grad()
    def ask(self, images_BDHW: Float[Tensor, "B D H W"]) -> TeacherOutputs:
        """The active teachers' outputs for a batch of images."""
        outputs = {
            name: _read(teacher, self._teacher_hooks[name], images_BDHW, f"of teacher {name}")
            for name, teacher in self._teachers.items()
        }
        if not outputs:
            return TeacherOutputs(images_BDHW.new_empty(len(images_BDHW), 0, self._classes))
        logits_BTC = torch.stack([logits_BC for logits_BC, _ in outputs.values()], dim=1)
        maps = {name: features for name, (_, features) in outputs.items() if features}
        return TeacherOutputs(logits_BTC, maps)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Distiller":
        for network in (self.student, *self._teachers.values()):
            # As torch calls it on submodules: some networks do not accept `recurse`.
            network._apply(fn)
        # Losses need float32's range, and learned parameters need its resolution.
        self.objective._apply(lambda tensor: _wide(fn(tensor), tensor))
        return self


def _wide(moved: Tensor, tensor: Tensor) -> Tensor:
    """The moved tensor if its dtype is unchanged, else the original on the new device."""
    return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)


def _check_sizes(image_shape: object) -> None:
    sizes = tuple(image_shape) if isinstance(image_shape, Sequence) else ()
    if len(sizes) != 3 or not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
        raise RequestError(
            f"image_shape is {image_shape}, expected channels, rows and columns, as (3, 32, 32)"
        )


def _check_gives(network: nn.Module, image_shape: MapShape, whose: str) -> Tensor:
    """The logits (2, C) of two blank images."""
    try:
        logits_BC = logits_of(network(blank(network, image_shape, count=2)), whose)
    except RequestError:
        raise
    except Exception as error:  # A user's forward can raise anything.
        size = "x".join(map(str, image_shape))
        raise RequestError(
            f"{whose} cannot take an image of {size}: {first_line(error)}"
        ) from error
    shape = tuple(logits_BC.shape)
    if len(shape) != 2 or shape[0] != 2:
        raise RequestError(f"{whose} gives {shape} for 2 images, expected logits (2, C)")
    return logits_BC


def _checked(student: nn.Module, image_shape: MapShape) -> tuple[nn.Module, int]:
    """The student without wrappers that only change how it is called, and its number of classes."""
    if isinstance(student, PARALLEL):
        raise RequestError(
            f"the student is wrapped by {type(student).__name__}, which layers cannot be read "
            f"through: wrap the distiller, {type(student).__name__}(Distiller(...))"
        )
    student, _ = unwrapped(student)
    check_tensors(student, "the student", trainable=True)
    # int8 layers or no_grad can cut the student off from gradients.
    # On a copy: a network that keeps its outputs could not be copied afterwards.
    with torch.enable_grad(), spare(student, "the student") as twin, evaluating(twin):
        logits_BC = _check_gives(twin, image_shape, "the student")
    if not logits_BC.requires_grad and any(p.requires_grad for _, p in student.named_parameters()):
        raise RequestError(
            "the student cannot learn: its logits carry no gradient; leave out no_grad(), "
            "detach() and int8 layers"
        )
    return student, logits_BC.shape[1]


def _frozen(name: str, teacher: nn.Module, image_shape: MapShape, classes: int) -> nn.Module:
    whose = f"teacher {name}"
    teacher, _ = unwrapped(teacher)
    check_tensors(teacher, whose, trainable=False)
    frozen = freeze(copied(teacher, whose))
    with torch.no_grad():
        theirs = _check_gives(frozen, image_shape, whose).shape[1]
    if theirs != classes:
        raise RequestError(
            f"{whose} knows {theirs} classes, the student {classes}; wrap it in a "
            "module that gives the student's, or use collegium.distill(labels=...)"
        )
    return frozen


def _hooks(network: nn.Module, layers: Sequence[str], whose: str) -> FeatureHooks:
    """Hooks that are installed only during a forward pass.

    So the network can be copied, pickled, scripted and used normally between two batches.
    """
    with uncompiled(network):  # layers have the names of the uncompiled network
        hooks = FeatureHooks(body_of(network), layers, whose)
    hooks.close()
    return hooks


def _read(
    network: nn.Module, hooks: FeatureHooks, images_BDHW: Tensor, whose: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and features in float32."""
    images_BDHW = _own(network, images_BDHW)
    # Compiled code ignores hooks that are added later.
    plain = uncompiled(network) if hooks.layers else contextlib.nullcontext()
    with plain, hooks:
        rehearsed(hooks, network, images_BDHW)
        logits_BC = logits_of(network(images_BDHW), whose, network.training)
        return in_float32(logits_BC, hooks, len(images_BDHW))


def _own(network: nn.Module, images_BDHW: Tensor) -> Tensor:
    """A copy of the images, since a network may change its input in place.

    The copy takes less than a thousandth of a forward pass. A `Network` makes one itself.
    """
    if not isinstance(images_BDHW, Tensor) or images_BDHW.ndim != 4:
        gave = describe_output(images_BDHW)
        raise RequestError(f"images are {gave}, expected a tensor (B, D, H, W)")
    found = first_tensor(network)
    floating = images_BDHW.is_floating_point()
    if found is not None and floating and not torch.is_autocast_enabled(images_BDHW.device.type):
        images_BDHW = images_BDHW.to(found.dtype)
    return images_BDHW if type(network) is Network else images_BDHW.clone()


def _dims(distiller: Distiller, image_shape: MapShape, pairs: Sequence[str], seed: int) -> Dims:
    """Names and shapes of teachers and layers, found with blank images through every network."""
    teachers = distiller._teachers
    layers = explicit_layers(pairs, distiller.teachers)
    maps = {
        name: survey(teacher, image_shape, layers.teachers.get(name, ()), f"teacher {name}")
        for name, teacher in teachers.items()
    }
    noise_BDHW = torch.rand(8, *image_shape, generator=torch.Generator().manual_seed(0))
    heads = {name: linear_head(teachers[name], maps[name], noise_BDHW) for name in teachers}
    return Dims(
        distiller._classes,
        distiller.teachers,
        survey(distiller.student, image_shape, layers.student, "the student"),
        maps,
        seed,
        {name: head for name, head in heads.items() if head is not None},
    )
