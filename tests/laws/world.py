"""A small random world in which every method can be built and asked."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

import collegium as cg
from collegium.methods import all_methods, choices
from collegium.methods.base import AbstractMethod
from collegium.methods.soft_target import AbstractSoftTarget
from collegium.objectives.objective import Objective

STUDENT_MAPS = {"one": (4, 6, 6), "two": (6, 3, 3), "three": (8, 2, 2)}
TEACHER_MAPS = {"early": (5, 6, 6), "late": (7, 3, 3)}


def settings() -> list[tuple[str, str]]:
    """Every method with every preset: a new file in methods/ is tested without an edit here."""
    return [
        (slug, preset)
        for slug, kind in all_methods().items()
        for preset in ("default", *kind.presets)
    ]


every = pytest.mark.parametrize(("slug", "preset"), settings())
"""Marks a law that is asked of every method with every preset."""
each_weighting = pytest.mark.parametrize("weighting", choices.WEIGHTINGS.names())
"""Marks a law that is asked of every weighting."""
MIXES = {name: loss.mixes for name, loss in choices.LOSSES.all().items()}
"""The mixes that each loss takes, its default first."""
LOSSES = [(loss, mix) for loss, mixes in MIXES.items() for mix in mixes]
"""Every loss with every mix."""


def make_method(slug: str, preset: str, teachers: tuple[str, ...]) -> AbstractMethod:
    """The method, with its teachers resolved."""
    return (
        all_methods()[slug].preset(preset).resolve_teachers(teachers, dict.fromkeys(teachers, 0.5))
    )


def is_soft_target(method: AbstractMethod) -> bool:
    """Whether it has the family's soft target, whose options and definition are known."""
    return isinstance(method, AbstractSoftTarget) and bool(method.alpha)


def pairs_for(teachers: tuple[str, ...]) -> tuple[str, ...]:
    """Explicit hints that stay with their teachers when the teachers are reordered."""
    return tuple(f"two={name}:late" for name in sorted(teachers))


@dataclass
class World:
    """Outputs of a student and of its teachers for B examples.

    Attributes:
        logits_BC, maps: the student's.
        teacher_logits: of each teacher by name, (B, C).
        teacher_maps: of each teacher by name.
        labels_B: true classes.
        origin: whose answers a teacher gives, where that is another name.
        groups: what a teacher tells apart, by its name, where somebody does not know all.
    """

    logits_BC: Tensor
    maps: dict[str, Tensor]
    teacher_logits: dict[str, Tensor]
    teacher_maps: dict[str, dict[str, Tensor]]
    labels_B: Tensor
    origin: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def make(
        cls, examples: int = 6, classes: int = 5, teachers: str = "abc", seed: int = 0
    ) -> "World":
        """Draw everything in float64."""
        torch.manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(examples, *shape, dtype=torch.float64)

        return cls(
            3 * draw(classes),
            {path: draw(*shape).relu() for path, shape in STUDENT_MAPS.items()},
            {name: 3 * draw(classes) for name in teachers},
            {
                name: {path: draw(*shape).relu() for path, shape in TEACHER_MAPS.items()}
                for name in teachers
            },
            torch.randint(classes, (examples,)),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The teachers in their order."""
        return tuple(self.teacher_logits)

    def dims(self, names: tuple[str, ...] | None = None, seed: int = 0) -> cg.Dims:
        """Names and shapes for the teachers that are heard."""
        names = self.names if names is None else names
        classes = self.logits_BC.shape[1]
        maps = dict.fromkeys(names, TEACHER_MAPS)
        return cg.Dims(classes, names, STUDENT_MAPS, maps, seed, self.heads(names))

    def heads(self, names: tuple[str, ...]) -> dict[str, cg.Head]:
        """A classifier on the last map of each teacher, drawn for its name."""
        classes, width = self.logits_BC.shape[1], TEACHER_MAPS["late"][0]
        found = {}
        for name in names:
            generator = torch.Generator().manual_seed(ord(self.origin.get(name, name)))
            weight_CD = torch.randn(classes, width, dtype=torch.float64, generator=generator)
            found[name] = (weight_CD, torch.zeros(classes, dtype=torch.float64))
        return found

    def student(self) -> cg.StudentOutputs:
        """The student's outputs."""
        return cg.StudentOutputs(self.logits_BC, self.maps)

    def teachers(self, names: tuple[str, ...]) -> cg.TeacherOutputs:
        """The outputs of the teachers that are heard."""
        if not names:
            return cg.TeacherOutputs(self.logits_BC.new_empty(len(self.labels_B), 0, 5))
        logits_BTC = torch.stack([self.teacher_logits[name] for name in names], dim=1)
        maps = {name: self.teacher_maps[name] for name in names}
        groups = [self.groups.get(name, range(logits_BTC.shape[2])) for name in names]
        groups_TC = torch.tensor([list(group) for group in groups]) if self.groups else None
        return cg.TeacherOutputs(logits_BTC, maps, groups_TC)

    def rows(self, rows: Tensor) -> "World":
        """The same for some of the examples."""
        return World(
            self.logits_BC[rows],
            {path: feature[rows] for path, feature in self.maps.items()},
            {name: logits[rows] for name, logits in self.teacher_logits.items()},
            {
                name: {path: feature[rows] for path, feature in maps.items()}
                for name, maps in self.teacher_maps.items()
            },
            self.labels_B[rows],
            self.origin,
            self.groups,
        )

    def named(self, origin: dict[str, str]) -> "World":
        """Other teachers made of these: new name -> whose answers it gives."""
        return replace(
            self,
            teacher_logits={new: self.teacher_logits[old] for new, old in origin.items()},
            teacher_maps={new: self.teacher_maps[old] for new, old in origin.items()},
            origin=origin,
        )


@dataclass
class Asked:
    """A built objective and what it said.

    Attributes:
        objective: in float64.
        terms: by name, (B,).
        weights_BT: what each heard teacher got.
        names: the heard teachers.
    """

    objective: Objective
    terms: dict[str, Tensor]
    weights_BT: Tensor
    names: tuple[str, ...]

    @property
    def by_example(self) -> bool:
        """Whether no weight is drawn by chance."""
        return self.objective.weighting is None or self.objective.weighting.by_example

    def is_pointwise(self, name: str) -> bool:
        """Whether an example's value of this term depends on the example alone."""
        return self.objective.terms[name].pointwise and self.by_example

    @property
    def loss(self) -> Tensor:
        """The loss to go down."""
        return cg.total(self.terms)


def ask(
    method: AbstractMethod,
    world: World,
    seed: int = 0,
    arrange: Callable[[Objective], object] = lambda objective: None,
) -> Asked:
    """Build the method for the world and ask it, having arranged what it learns."""
    method = method.resolve_teachers(world.names, dict.fromkeys(world.names, 0.5))
    heard = method.active_teachers(world.names)
    objective = method.build(world.dims(heard, seed)).double()
    arrange(objective)
    inputs = world.student(), world.teachers(heard), world.labels_B
    weights_BT = objective.weigh(*inputs)
    return Asked(objective, objective(*inputs, weights_BT), weights_BT, heard)


def shares(examples: int, teachers: int) -> Tensor:
    """Weights that are other for every teacher and example."""
    generator = torch.Generator().manual_seed(5)
    drawn_BT = torch.rand(examples, teachers, dtype=torch.float64, generator=generator) + 0.1
    return drawn_BT / drawn_BT.sum(dim=1, keepdim=True)


def terms_at(
    method: AbstractMethod, world: World, weights_BT: Tensor
) -> tuple[Objective, dict[str, Tensor]]:
    """The objective of a method for a world, and its terms at weights of our choice."""
    asked = ask(method, world)
    inputs = world.student(), world.teachers(asked.names), world.labels_B
    return asked.objective, asked.objective(*inputs, weights_BT)
