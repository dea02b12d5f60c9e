"""What the commands share: their base class, their answer, and options of output."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from collegium.config.option import Option
from collegium.config.options import (
    DataConfig,
    DataSource,
    Machine,
    Optimisation,
    Storage,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)
from collegium.config.run import Run
from collegium.errors import RequestError

Json = dict[str, Any]
Folder = Annotated[Path, Option(positional=True)]
"""A folder that is given without the name of an option."""


@dataclass(frozen=True)
class Answer:
    """The result of a command.

    Attributes:
        result: for `--json`.
        text: for people.
        exit_code: 0 unless the command found something wrong.
    """

    result: Json
    text: str = ""
    exit_code: int = 0


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """A command: its options are the fields, its help the docstring."""

    json: bool = False
    """Print the result as one JSON object on standard output."""

    @abstractmethod
    def run(self) -> Answer:
        """Do the work."""

    def given(self, *names: str) -> Json:
        """The values of some of its options, by name."""
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class QuietCommand(Command):
    """A command that shows its progress."""

    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True, kw_only=True)
class RunCommand(QuietCommand):
    """A command that writes a run folder."""

    out: Path | None = None
    """The run folder; by default a new one under runs/."""
    overwrite: bool = False
    """Replace the run that is in the folder."""
    tensorboard: bool = False
    """Write metrics as TensorBoard events too, into tensorboard/ in the run folder (needs the extra
    of that name)."""

    def folder(self, name: str) -> Path:
        """The folder that was given, checked; else the next free one of that name under runs/."""
        from collegium.records.run_folder import next_free
        from collegium.runner.folders import check_folder

        usual = Path("runs") / name
        if self.out is None:
            return usual if self.overwrite else next_free(usual)
        check_folder(self.out, self.overwrite)
        return self.out


@dataclass(frozen=True, kw_only=True)
class StudentCommand(Command):
    """A command that trains students with or without teachers."""

    data: DataConfig
    student: StudentConfig
    teachers: TeacherConfig = field(default_factory=TeacherConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    optimisation: Optimisation = field(default_factory=Optimisation)
    storage: Storage = field(default_factory=Storage)
    machine: Machine = field(default_factory=Machine)

    def base(self, **more: Any) -> Run:
        """The run of these options and of more, such as its method."""
        parts = options_of(self.data, self.student, self.teachers, self.training)
        return Run(**parts, **self.given("optimisation", "storage", "machine"), **more)


def options_of(*groups: Any) -> Json:
    """The options of several groups, by their own names."""
    return {name: value for group in groups for name, value in vars(group).items()}


def of_data(data: DataSource) -> Json:
    """The options of the data, with what to do about corrupt images in the data string."""
    options = {name: value for name, value in vars(data).items() if name != "corrupt"}
    return options | {"data": data.source}


def require_teachers(method: str, given: object) -> None:
    """Refuse a method that uses teachers where none is given.

    Raises:
        RequestError: naming the option.
    """
    if not given:
        raise RequestError(
            f"{method} uses teachers and none was given: add --teacher NAME=MODEL, or use vanilla"
        )
