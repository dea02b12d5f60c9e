"""What every method is: a frozen set of hyperparameters that builds an objective.

Nothing here imports torch, so that the command line answers at once; `build` imports what it needs.
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

M = TypeVar("M", bound="AbstractMethod")


@dataclass(frozen=True)
class AbstractMethod(ABC):
    """A paper: its hyperparameters are fields, their defaults the class's.

    Subclasses give a docstring that begins with what the method does and cites the paper, a field
    docstring per hyperparameter (that becomes `--help`), and `build`.
    """

    slug: ClassVar[str]
    """How the command line calls it."""
    bibtex: ClassVar[str] = ""
    needs: ClassVar[str] = "logits"
    """What it reads of the teachers, in words."""
    uses_teachers: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named settings: what each changes from the defaults."""

    @abstractmethod
    def build(self, dims: "Dims") -> "Objective":
        """The objective for these shapes; what it learns is drawn from `dims.seed` alone."""

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
        """Whether it settles whom it hears by the teachers' accuracy on the validation split."""
        return False

    def heard(self, teachers: tuple[str, ...], accuracy: Mapping[str, float]) -> "AbstractMethod":
        """This method, having settled which of the teachers it hears.

        Args:
            teachers: the names given.
            accuracy: of each on the validation split, in 0..1.
        """
        return self

    def active_teachers(self, teachers: tuple[str, ...]) -> tuple[str, ...]:
        """The names whose answers are read, of those given."""
        return teachers if self.uses_teachers else ()

    def pairs_asked(self) -> tuple[str, ...]:
        """Hidden layers a user pairs, STUDENT_LAYER=TEACHER:TEACHER_LAYER; none without hints."""
        return ()

    def options(self) -> dict[str, Any]:
        """Hyperparameters by name, as run.json keeps them."""
        return dataclasses.asdict(self)

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return inspect.cleandoc(cls.__doc__ or "").splitlines()[0]

    @classmethod
    def card(cls) -> str:
        """The docstring, what it needs, and every hyperparameter with its default."""
        rows = [f"  {field.name} = {field.default!r}" for field in dataclasses.fields(cls)]
        # The doctest is for those who read the code.
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


def check_soft_target(temperature: float, alpha: float) -> None:
    """Refuse a temperature or an alpha that makes no sense.

    Raises:
        RequestError: naming the option, its value and its range.
    """
    require(temperature > 0, f"temperature must be > 0, got {temperature}")
    require(0 <= alpha <= 1, f"alpha must be between 0 and 1, got {alpha}")


def check_parts(teachers: object, method: object, expected: str) -> None:
    """Refuse teachers without names, and a method that is not built.

    Args:
        teachers: as they were given.
        method: the same.
        expected: what teachers can be.

    Raises:
        RequestError: saying what was given.
    """
    if not isinstance(teachers, Mapping):
        raise RequestError(
            f"teachers are a {type(teachers).__name__}, expected {expected} by name, as "
            '{"a": network}'
        )
    if not isinstance(method, AbstractMethod):
        name = method.__name__ if isinstance(method, type) else repr(method)
        raise RequestError(f"the method is {name}, expected one with its options, as cg.AMTML()")
