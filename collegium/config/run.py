"""A run: everything that decides a result."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from collegium.config.options import Machine, Optimisation, Storage
from collegium.errors import FolderError, RequestError
from collegium.methods import find_method
from collegium.methods.base import AbstractMethod
from collegium.methods.vanilla import Vanilla
from collegium.records.run_folder import RUN, Json, Record
from collegium.utils.from_json import (
    BALANCED,
    FOUND,
    ImageSize,
    as_class_weights,
    as_number,
    check_found,
    check_size,
    fits,
    strict,
    tuples,
)

if TYPE_CHECKING:
    from torch import nn

    from collegium.data import Splits

FORMAT = 1
LARGEST = 1 << 63


@dataclass(frozen=True)
class Run:
    """What decides a result; two equal runs on one machine leave identical students.

    Attributes:
        data: a data string, or splits.
        student: a model string, or a module.
        teachers: by name; empty for a network trained alone.
        method: whom the student hears, and how.
        optimisation: epochs, batch size, optimiser.
        machine: precision, devices, threads.
        storage: whether and how teachers' answers are kept.
        seed: of the student's start, the order of examples and views, and the method's draws.
        validation: part of the training data held out where the data has no validation split.
        augment: view recipe; by default what suits the data.
        views: how many views an example has, 0 for a new one every epoch; None for a quarter of the
            epochs where teachers are heard, else 0.
        view_seed: of the views' pixels; equal for runs that share stored answers.
        image_size: rows and columns of a folder's images, one number for both.
        watch_test: measure on the test split after every epoch too; nothing is chosen by it.
        classes: the classes that are learned, of those the data has; none for all.
        labels: for teachers with other classes than the data's, by their name: for each of their
            classes the student's class or classes it stands for; or the names of their classes,
            in the order of their logits.
        class_weights: of the label's cross entropy, by class name, or "balanced".
        label_smoothing: part of the label that all classes share equally, 0 to 1.
    """

    data: "str | Splits"
    student: "str | nn.Module"
    teachers: "Mapping[str, str | nn.Module]" = field(default_factory=dict)
    method: AbstractMethod = field(default_factory=Vanilla)
    optimisation: Optimisation = field(default_factory=Optimisation)
    machine: Machine = field(default_factory=Machine)
    storage: Storage = field(default_factory=Storage)
    seed: int = 0
    validation: float = 0.1
    augment: str | None = None
    views: int | None = None
    view_seed: int = 0
    image_size: ImageSize = None
    watch_test: bool = False
    classes: tuple[str, ...] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)
    class_weights: Mapping[str, float] | Literal["balanced"] | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.class_weights not in (None, BALANCED):
            if isinstance(self.class_weights, str):  # a file is read by `as_class_weights`
                raise RequestError(f"class_weights: {self.class_weights!r} is not {BALANCED!r}")
            weights = as_class_weights(self.class_weights)
            object.__setattr__(self, "class_weights", weights)
        object.__setattr__(self, "label_smoothing", as_number(self.label_smoothing))
        if not fits(self.label_smoothing, float) or not 0 <= self.label_smoothing < 1:
            raise RequestError(
                f"--label-smoothing must be at least 0 and below 1, got {self.label_smoothing!r}"
            )
        for name in ("seed", "view_seed"):
            if not -LARGEST <= getattr(self, name) < LARGEST:
                raise RequestError(f"--{name.replace('_', '-')} must fit 64 bits")
        check_size(self.image_size)

    def to_json(self) -> Json:
        """The content of run.json."""
        return {
            "format": FORMAT,
            "data": describe(self.data),
            "student": describe(self.student),
            "teachers": {name: describe(model) for name, model in self.teachers.items()},
            "method": self.method.slug,
            "options": self.method.options(),
            "optimisation": dataclasses.asdict(self.optimisation),
            "machine": dataclasses.asdict(self.machine),
            "storage": dataclasses.asdict(self.storage),
            "seed": self.seed,
            "validation": self.validation,
            "augment": self.augment,
            "views": self.views,
            "view_seed": self.view_seed,
            "image_size": self.image_size,
            "watch_test": self.watch_test,
            "classes": list(self.classes),
            "labels": dict(self.labels),
            "class_weights": self.class_weights,
            "label_smoothing": self.label_smoothing,
        }

    @classmethod
    def from_json(cls, content: Json) -> "Run":
        """Read run.json back, strictly.

        Raises:
            RequestError: an unknown or missing key, or a part that was given from Python.
        """
        content = tuples(content)
        if content.pop("format", None) != FORMAT:
            raise RequestError(f"run.json is not of format {FORMAT}: written by another version?")
        check_found(content)
        content = {key: value for key, value in content.items() if key not in FOUND}
        method = find_method(str(content.pop("method", "")))
        return strict(
            cls,
            content
            | {
                "method": strict(method, tuples(content.pop("options", {}))),
                "optimisation": strict(Optimisation, content.pop("optimisation", {})),
                "machine": strict(Machine, content.pop("machine", {})),
                "storage": strict(Storage, content.pop("storage", {})),
            },
        )

    @classmethod
    def complete(cls, content: Json) -> Json:
        """run.json with every option that it leaves out, as an older one does, at its default."""
        return cls.from_json(content).to_json() | {k: content[k] for k in FOUND if k in content}

    @classmethod
    def of(cls, record: Record) -> "Run":
        """What a run folder says was asked for.

        Raises:
            FolderError: it is no run folder, or its run.json makes no sense; with its path.
        """
        content = Record.open(record.folder).run
        try:
            return cls.from_json(content)
        except RequestError as error:
            raise FolderError(f"{record.path(RUN)}: {error}") from None


def describe(part: Any) -> str:
    """A string as it is; an object by its class, in brackets so that it is never read back."""
    return part if isinstance(part, str) else f"<{type(part).__name__} from Python>"
