"""A run: every option that decides a result, and run.json, which is made of them."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from collegium.config.found import FORMAT, FOUND, READABLE, check_found
from collegium.config.option import Field, fields_of
from collegium.config.options import (
    LARGEST,
    DataConfig,
    Machine,
    Optimisation,
    Storage,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
    check_range,
)
from collegium.errors import FolderError, RequestError, UnknownNameError
from collegium.methods import find_method
from collegium.methods.base import AbstractMethod
from collegium.methods.vanilla import Vanilla
from collegium.utils.from_json import as_class_weights, as_number, check_size, fits, strict, tuples

if TYPE_CHECKING:
    from collegium.records.run_folder import Record

Json = dict[str, Any]


@dataclass(frozen=True)
class Run(TrainingConfig, TeacherConfig, StudentConfig, DataConfig):
    """What decides a result; two equal runs on one machine leave identical students.

    Its options are those of the groups in `collegium.config.options`; all but data, student and
    teachers are given by name. Here stand those that a command has in a group of their own.

    Attributes:
        method: how the student learns from its teachers.
        optimisation: epochs, batch size, optimizer.
        machine: precision, devices, threads.
        storage: whether and how the teachers' outputs are stored.
    """

    method: AbstractMethod = field(default_factory=Vanilla)
    optimisation: Optimisation = field(default_factory=Optimisation)
    machine: Machine = field(default_factory=Machine)
    storage: Storage = field(default_factory=Storage)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", self.source)
        object.__setattr__(self, "class_weights", as_class_weights(self.class_weights))
        object.__setattr__(self, "label_smoothing", as_number(self.label_smoothing))
        if not fits(self.label_smoothing, float) or not 0 <= self.label_smoothing < 1:
            raise RequestError(
                f"--label-smoothing must be at least 0 and below 1, got {self.label_smoothing!r}"
            )
        check_range(self, -LARGEST - 1, LARGEST, "seed", "view_seed")
        check_size(self.image_size)

    def to_json(self) -> Json:
        """The options as run.json holds them."""
        content: Json = {"format": FORMAT}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, AbstractMethod):
                content |= {"method": value.slug, "options": value.options()}
            elif dataclasses.is_dataclass(value) and item.name in GROUPS:
                content[item.name] = dataclasses.asdict(value)  # type: ignore[arg-type]
            else:
                content[item.name] = _as_json(value)
        return content

    @classmethod
    def from_json(cls, content: Json) -> "Run":
        """Read run.json back, strictly.

        Raises:
            RequestError: an unknown or missing key, or a part that was given from Python.
        """
        content = tuples(content)
        if content.pop("format", None) not in READABLE:
            raise RequestError(
                f"run.json is not of format {FORMAT} or an older one: written by another version?"
            )
        check_found(content)
        content = {key: value for key, value in content.items() if key not in FOUND}
        method = find_method(str(content.pop("method", "")))
        parts = {name: strict(kind, content.pop(name, {})) for name, kind in GROUPS.items()}
        parts["method"] = strict(method, tuples(content.pop("options", {})))
        return strict(cls, content | parts)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **parts: Any) -> "Run":
        """A run of options by their own names, whichever group holds them.

        Args:
            options: the options.
            **parts: further fields of the run.

        Raises:
            UnknownNameError: no option has that name.
            RequestError: a value of another type.
        """
        known = {item.name: group for group, item in every_option()}
        for name in options:
            if name not in known:
                raise UnknownNameError("option", name, known)
            if name in parts:
                raise RequestError(f"option {name!r} cannot be given: another argument sets it")
        groups: dict[str, Json] = {name: {} for name in ("", *GROUPS)}
        for name, value in options.items():
            groups[known[name]][name] = as_number(value)
        made = {name: strict(kind, groups[name]) for name, kind in GROUPS.items()}
        return strict(cls, groups[""] | made | parts)

    @classmethod
    def complete(cls, content: Json) -> Json:
        """run.json with every option that it leaves out, as an older one does, at its default."""
        return cls.from_json(content).to_json() | {k: content[k] for k in FOUND if k in content}

    @classmethod
    def of(cls, record: "Record") -> "Run":
        """The run that a run folder records.

        Raises:
            FolderError: it is no run folder, or its run.json makes no sense; with its path.
        """
        from collegium.records.run_folder import RUN, Record

        content = Record.open(record.folder).run
        try:
            return cls.from_json(content)
        except RequestError as error:
            raise FolderError(f"{record.path(RUN)}: {error}") from None


GROUPS: Mapping[str, Any] = {
    item.name: item.kind for item in fields_of(Run) if item.group and item.name != "method"
}
"""The dataclasses that are objects of their own in run.json, by their key."""


def every_option() -> Iterator[tuple[str, Field]]:
    """Each option of a run with the key of its group in run.json, "" for those in none."""
    for item in fields_of(Run):
        if item.name in GROUPS:
            yield from ((item.name, inner) for inner in fields_of(item.kind))
        elif item.name != "method":
            yield "", item


def describe(part: Any) -> str:
    """A string as it is; an object by its class, in brackets so that it is never read back."""
    return part if isinstance(part, str) else f"<{type(part).__name__} from Python>"


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    return value if value is None or isinstance(value, int | float) else describe(value)
