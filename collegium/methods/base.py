"""The base class of all methods: a frozen set of hyperparameters that builds an objective.

Nothing here imports torch, so that the command line starts fast; `build` imports what it needs.
"""

import dataclasses
import inspect
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from collegium.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from collegium.objectives.objective import Objective
    from collegium.types import Dims

TEMPERATURE, ALPHA, LABEL_WEIGHT = 4.0, 0.9, 1.0
"""Defaults of methods on soft targets (docs/results.md, "The label's weight").

Here for the command line, which reads its help without the names of weightings and losses."""

M = TypeVar("M", bound="AbstractMethod")


@dataclass(frozen=True)
class AbstractMethod(ABC):
    """A method of distillation; its hyperparameters are fields.

    A subclass has a docstring that begins with the method's name and what it does and cites the
    paper, a docstring for each field (the text of `--help`), and `build`.
    """

    slug: ClassVar[str]
    """Name on the command line."""
    bibtex: ClassVar[str] = ""
    needs: ClassVar[str] = "logits"
    """The outputs of the teachers that it reads, for messages."""
    uses_teachers: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named settings: the values that differ from the defaults."""

    @abstractmethod
    def build(self, dims: "Dims") -> "Objective":
        """The objective for these shapes; its parameters are drawn from `dims.seed` alone."""

    @classmethod
    def preset(cls: type[M], name: str, **changes: Any) -> M:
        """A named setting, with further changes.

        Raises:
            UnknownNameError: no such preset.
        """
        if name != "default" and name not in cls.presets:
            raise UnknownNameError(f"preset of {cls.slug}", name, ["default", *cls.presets])
        return cls(**{**cls.presets.get(name, {}), **changes})

    @property
    def needs_teacher_accuracy(self) -> bool:
        """Whether it chooses teachers by their accuracy on the validation split."""
        return False

    def resolve_teachers(
        self, teachers: tuple[str, ...], accuracy: Mapping[str, float]
    ) -> "AbstractMethod":
        """This method, with its choice of teachers made.

        Args:
            teachers: all names.
            accuracy: of each on the validation split, in 0..1.
        """
        return self

    def active_teachers(self, teachers: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the given teachers whose outputs are read."""
        return teachers if self.uses_teachers else ()

    def requested_pairs(self) -> tuple[str, ...]:
        """Those of its option `hint_pairs`, as STUDENT_LAYER=TEACHER:TEACHER_LAYER."""
        return getattr(self, "hint_pairs", ())

    def options(self) -> dict[str, Any]:
        """Hyperparameters by name, as run.json keeps them."""
        return dataclasses.asdict(self)

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]

    @classmethod
    def card(cls) -> str:
        """The docstring, the outputs it needs, and every hyperparameter with its default."""
        rows = [f"  {field.name} = {field.default!r}" for field in dataclasses.fields(cls)]
        # Without the doctest.
        prose = inspect.cleandoc(cls.__doc__ or "").partition(">>>")[0].strip()
        parts = [prose, f"Needs: {cls.needs}."]
        parts += ["Options and defaults:\n" + "\n".join(rows)] if rows else []
        parts += [f"Presets: {', '.join(cls.presets)}."] if cls.presets else []
        return "\n\n".join(parts)

    @classmethod
    def citation(cls) -> str:
        """The paper as a BibTeX entry, or a line saying there is none."""
        return textwrap.dedent(cls.bibtex).strip() or f"% {cls.slug} is a baseline without a paper"


def require(condition: bool, message: str) -> None:
    """Refuse a hyperparameter in one line.

    Raises:
        RequestError: the condition does not hold.
    """
    if not condition:
        raise RequestError(message)


def check_parts(teachers: object, method: object, expected: str) -> None:
    """Refuse teachers without names, and a method that is no instance.

    Args:
        teachers: as the user gave them.
        method: as the user gave it.
        expected: what a teacher can be, for the message.

    Raises:
        RequestError: names what was given.
    """
    if not isinstance(teachers, Mapping):
        raise RequestError(
            f"teachers are a {type(teachers).__name__}, expected {expected} by name, as "
            '{"a": network}'
        )
    if not isinstance(method, AbstractMethod):
        name = method.__name__ if isinstance(method, type) else repr(method)
        raise RequestError(f"the method is {name}, expected one with its options, as cg.AMTML()")
