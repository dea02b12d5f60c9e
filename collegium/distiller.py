"""Student, teachers and method as one module, for a training loop of your own.

    distiller = cg.Distiller(student, {"a": net_a, "b": net_b}, cg.AMTML(), image_shape=(3, 32, 32))
    optimizer = torch.optim.SGD(distiller.parameter_groups(lr=0.05), momentum=0.9)
    ...
    distiller(images, labels).loss.backward()

`distill` does the rest too: views, records, checkpoints, stores. This is for loops that have them.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from collegium.errors import RequestError
from collegium.method import AbstractMethod
from collegium.models.network import Network, body_of
from collegium.models.outputs import logits_of
from collegium.models.pairing import asked_layers
from collegium.models.survey import survey
from collegium.models.taps import Taps
from collegium.models.trace import watch
from collegium.objective import Terms, total
from collegium.teachers.faculty import linear_head
from collegium.training.learner import check_reached, groups_of, student_layers
from collegium.types import Dims, MapShape, StudentOutputs, TeacherOutputs


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
        RequestError: a teacher of other classes, a method without the teachers or layers it needs.
    """

    def __init__(
        self,
        student: nn.Module,
        teachers: Mapping[str, nn.Module],
        method: AbstractMethod,
        image_shape: MapShape,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if method.hears_teachers and not teachers:
            raise RequestError(f"method {method.slug} hears teachers and none was given")
        self.student = student
        method = method.heard(tuple(teachers), {})
        # No modules of this one: train(), parameters() and state_dict() must not reach them.
        self._teachers = {
            name: copy.deepcopy(teachers[name]).eval().requires_grad_(False)
            for name in method.listens_to(tuple(teachers))
        }
        dims = _dims(student, self._teachers, image_shape, method.pairs_asked(), seed)
        self.objective = method.build(dims)
        self._classes = dims.classes
        read = self.objective.layers.teachers
        self._taps = Taps(body_of(student), student_layers(self.objective, dims), "the student")
        self._teacher_taps = {
            name: Taps(body_of(teacher), read.get(name, ()), f"teacher {name}")
            for name, teacher in self._teachers.items()
        }
        device = next((parameter.device for parameter in student.parameters()), None)
        self.to(device)

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

    def forward(
        self, images_BDHW: Float[Tensor, "B D H W"], labels_B: Int[Tensor, " B"]
    ) -> DistillerOutputs:
        """One batch, heard by student and teachers; in training mode or in evaluation mode.

        Nobody changes the images.

        Raises:
            RequestError: a term would move nothing of the student, or a layer cannot be read.
        """
        student = self._observe(images_BDHW)
        teachers = self.ask(images_BDHW)
        # Losses need float32's range, also where the networks run in less.
        with torch.autocast(images_BDHW.device.type, enabled=False):
            weights_BT = self.objective.weigh(student, teachers, labels_B)
            terms = self.objective(student, teachers, labels_B, weights_BT)
        return DistillerOutputs(terms, weights_BT, student.logits_BC)

    def _observe(self, images_BDHW: Tensor) -> StudentOutputs:
        self._taps.rehearse(self.student, images_BDHW)
        self._taps.forget()
        said = self.student(_own(self.student, images_BDHW))
        logits_BC = logits_of(said, "the student").float()
        student = StudentOutputs(logits_BC, _full(self._taps.take(len(images_BDHW))))
        # Somebody's own loop may freeze the whole student, to train what the method learns.
        if self.training and any(p.requires_grad for p in self.student.parameters()):
            check_reached(self.student, self.objective, student)
        return student

    @torch.no_grad()
    def ask(self, images_BDHW: Float[Tensor, "B D H W"]) -> TeacherOutputs:
        """What the teachers say of some images."""
        for taps in self._teacher_taps.values():
            taps.forget()
        said = [
            logits_of(teacher(_own(teacher, images_BDHW)), f"of teacher {name}").float()
            for name, teacher in self._teachers.items()
        ]
        if not said:
            return TeacherOutputs(images_BDHW.new_empty(len(images_BDHW), 0, self._classes))
        maps = {
            name: _full(taps.take(len(images_BDHW))) for name, taps in self._teacher_taps.items()
        }
        return TeacherOutputs(torch.stack(said, dim=1), {k: v for k, v in maps.items() if v})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Distiller":
        for teacher in self._teachers.values():
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _own(network: nn.Module, images_BDHW: Tensor) -> Tensor:
    """Images that a network may write over: the others, and whoever gave them, keep theirs.

    A copy costs less than a thousandth of a forward; a `Network` makes one itself.
    """
    return images_BDHW if type(network) is Network else images_BDHW.clone()


def _full(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {path: feature.float() for path, feature in maps.items()}


def _dims(
    student: nn.Module,
    teachers: Mapping[str, nn.Module],
    image_shape: MapShape,
    pairs: Sequence[str],
    seed: int,
) -> Dims:
    """Names and shapes, by blank images through every network."""
    asked, asked_of = asked_layers(pairs, tuple(teachers))
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
