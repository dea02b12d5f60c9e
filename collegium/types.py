"""The types that all parts of the package share, and the legend of tensor axes.

A tensor's name ends in its axes:

    B  examples of a batch          N  examples of a data set
    T  teachers                     C  classes
    D  channels or feature width    H, W  rows and columns of a map
    P  parameters of no fixed order

The temperature is always called `temperature`; T is never the temperature.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from collegium.errors import RequestError

UNKNOWN = -1e4
"""The logit of a class that a teacher does not know: its probability is 0 even without a mask."""

MapShape = tuple[int, int, int]
"""Channels, rows and columns of a feature map, without the batch."""


@dataclass(frozen=True)
class Batch:
    """One view of each of B examples.

    Attributes:
        images_BDHW: pixels of the view in 0..1, channels first, before any normalisation.
        labels_B: the class of each example.
        index_B: the example's position in its data set; with `view_B` it names the pixels.
        view_B: which view of the example this is; the same (seed, index, view) is the same pixels.
    """

    images_BDHW: Float[Tensor, "B D H W"]
    labels_B: Int[Tensor, " B"]
    index_B: Int[Tensor, " B"]
    view_B: Int[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.labels_B)


@dataclass(frozen=True)
class StudentOutputs:
    """The logits and feature maps of the student.

    Attributes:
        logits_BC: raw scores, before any softmax.
        maps: feature maps by module path, from shallow to deep; a vector counts as a 1x1 map.
    """

    logits_BC: Float[Tensor, "B C"]
    maps: Mapping[str, Float[Tensor, "B _ _ _"]] = field(default_factory=dict)

    @property
    def last_map_BDHW(self) -> Float[Tensor, "B D H W"]:
        """The deepest recorded map."""
        return list(self.maps.values())[-1]


@dataclass(frozen=True)
class TeacherOutputs:
    """The logits and feature maps of the teachers for the same views; they carry no gradient.

    Attributes:
        logits_BTC: raw scores, teachers in the order of their names.
        maps: for each teacher by name, its feature maps by module path.
        groups_TC: the classes each teacher distinguishes: for each class the first class of its
            group (the class itself where it is alone), -1 where the teacher does not know it. None,
            the usual case: every teacher distinguishes all classes. Logits of unknown classes
            become `UNKNOWN`.
    """

    logits_BTC: Float[Tensor, "B T C"]
    maps: Mapping[str, Mapping[str, Float[Tensor, "B _ _ _"]]] = field(default_factory=dict)
    groups_TC: Int[Tensor, "T C"] | None = None

    def __post_init__(self) -> None:
        if self.groups_TC is not None:
            logits_BTC = self.logits_BTC.masked_fill(self.groups_TC < 0, UNKNOWN)
            object.__setattr__(self, "logits_BTC", logits_BTC)  # the dataclass is frozen

    def known_mask(self, labels_B: Int[Tensor, " B"]) -> Bool[Tensor, "B T"] | None:
        """Whether each teacher knows each example's class; None where all know all."""
        return None if self.groups_TC is None else (self.groups_TC >= 0)[:, labels_B].mT

    def some(self, rows: slice) -> "TeacherOutputs":
        """The same for some of the examples."""
        maps = {
            name: {path: feature[rows] for path, feature in layers.items()}
            for name, layers in self.maps.items()
        }
        return TeacherOutputs(self.logits_BTC[rows], maps, self.groups_TC)


Head = tuple[Float[Tensor, "C D"], Float[Tensor, " C"]]
"""A linear classifier: weight and bias."""


@dataclass(frozen=True)
class Dims:
    """Names and shapes of all networks: what a method needs to build its objective.

    Attributes:
        classes: number of classes C.
        teachers: names of the T teachers, in their order.
        student_maps: shape of each student layer by module path, from shallow to deep.
        teacher_maps: the same for each teacher, by its name.
        seed: of every random initial value in the objective.
        heads: the linear classifier that a teacher applies to the mean of its last map, by its
            name; missing for teachers that have none.
    """

    classes: int
    teachers: tuple[str, ...] = ()
    student_maps: Mapping[str, MapShape] = field(default_factory=dict)
    teacher_maps: Mapping[str, Mapping[str, MapShape]] = field(default_factory=dict)
    seed: int = 0
    heads: Mapping[str, Head] = field(default_factory=dict)

    @property
    def student_width(self) -> int:
        """Channels of the student's last map.

        Raises:
            RequestError: the student has no feature map.
        """
        if not self.student_maps:
            raise RequestError("the student has no hidden layer that can be read")
        return list(self.student_maps.values())[-1][0]


class HintPair(NamedTuple):
    """A layer of the student and a layer of one teacher that are compared.

    Attributes:
        student_layer: its name: a module path, with a suffix where only a part or summary is read.
        teacher: by name.
        teacher_layer: as the student's.
    """

    student_layer: str
    teacher: str
    teacher_layer: str

    def __str__(self) -> str:
        return f"{self.student_layer}={self.teacher}:{self.teacher_layer}"


@dataclass(frozen=True)
class Layers:
    """The hidden layers that an objective reads, by name.

    Attributes:
        student: of the student.
        teachers: of each teacher, by its name.
        pairs: the pairs of layers that are compared.
    """

    student: tuple[str, ...] = ()
    teachers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pairs: tuple[HintPair, ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[HintPair]) -> "Layers":
        """All layers of some pairs, each once.

        >>> Layers.of([HintPair("one", "a", "two"), HintPair("one", "b", "two")]).student
        ('one',)
        """
        pairs = tuple(dict.fromkeys(pairs))
        teachers: dict[str, dict[str, None]] = {}
        for pair in pairs:
            teachers.setdefault(pair.teacher, {})[pair.teacher_layer] = None
        student = tuple(dict.fromkeys(pair.student_layer for pair in pairs))
        return cls(student, {name: tuple(layers) for name, layers in teachers.items()}, pairs)
