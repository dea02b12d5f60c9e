"""Reads the words of a command line into the dataclass of a command.

Every option is a field of that dataclass or of a group in it (`collegium.config.option`). This
module knows neither commands nor options, and imports no torch.
"""

import dataclasses
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any, Literal, TypeVar

from collegium.config.option import Field, fields_of
from collegium.errors import RequestError, UnknownNameError
from collegium.methods import find_method
from collegium.methods.base import AbstractMethod

C = TypeVar("C")
METHOD = "method"
"""The field whose value is chosen by a method's name, with the method's own options after it."""
_KINDS = {int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Slot:
    """An option of a command.

    Attributes:
        group: the field of the command that holds it; "" for the command itself.
        field: its type, default, help text and marks.
    """

    group: str
    field: Field

    @property
    def names(self) -> tuple[str, ...]:
        """Its names on the command line, without dashes before them."""
        main = self.field.option.name or self.field.name
        return tuple(name.replace("_", "-") for name in (main, *self.field.option.also))

    @property
    def shown(self) -> str:
        """What a message calls it."""
        name = self.names[0]
        return name.upper() if self.field.option.positional else f"--{name}"

    @property
    def many(self) -> bool:
        """Whether it holds several values."""
        return typing.get_origin(self.field.kind) is tuple and self.field.option.read is None


def slots_of(command: Any, group: str = "") -> list[Slot]:
    """The options of a command or of a method, in order.

    Args:
        command: the dataclass, or an instance with other defaults.
        group: the field of the command that holds it.
    """
    found: list[Slot] = []
    for item in fields_of(command):
        if item.group and not group and item.name != METHOD:
            held = item.kind if item.default is MISSING else item.default
            found += slots_of(held, item.name)
        elif item.name != METHOD or group:
            found.append(Slot(group, item))
    return found


def read_options(command: type[C], words: Sequence[str]) -> C:
    """A command with the options that the words give.

    Raises:
        UnknownNameError: no such option or method.
        RequestError: a value that makes no sense, or an option that is missing.
    """
    reading = _Reading(command)
    rest = list(words)
    while rest:
        reading.take(rest)
    return typing.cast(C, reading.made())


@dataclass
class _Reading:
    """What was read so far.

    Attributes:
        command: the dataclass of the command.
        values: by group and field.
        method: the method, once it is named.
        preset: of the method.
    """

    command: Any
    values: dict[tuple[str, str], Any] = field(default_factory=dict)
    method: type[AbstractMethod] | None = None
    preset: str = "default"

    def __post_init__(self) -> None:
        self.slots = slots_of(self.command)
        self.methods = any(item.name == METHOD for item in fields_of(self.command))

    def take(self, words: list[str]) -> None:
        """Read one option or word, and remove it from the front of the words."""
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            self._take_word(word)
            return
        name, given, value = word[2:].partition("=")
        if given:
            words.insert(0, value)
        name = name.replace("_", "-")
        if name == "preset":
            self._take_preset(words)
        elif not self._take_flag(name, bool(given)):
            self._take_option(self._find(name, words), words, bool(given))

    def _take_word(self, word: str) -> None:
        places = [slot for slot in self.slots if slot.field.option.positional]
        place = next(
            (s for s in places if s.many or (s.group, s.field.name) not in self.values), None
        )
        if place is not None:
            self._set(place, [word])
        elif self.methods and self.method is None:
            self.method = find_method(word)
            self.slots = [*slots_of(self.method, METHOD), *self.slots]
        else:
            raise RequestError(f"unexpected word {word!r}; options begin with --")

    def _take_preset(self, words: list[str]) -> None:
        if not self.methods:
            raise RequestError("--preset belongs to the methods of distill")
        if self.method is None:
            raise RequestError("--preset comes after the name of a method: METHOD --preset NAME")
        self.preset = words.pop(0) if words else ""
        self.method.preset(self.preset)

    def _take_flag(self, name: str, given: bool) -> bool:
        for slot in self.slots:
            on, off = name in slot.names, name in {f"no-{one}" for one in slot.names}
            if slot.field.kind is bool and (on or off):
                if given:
                    raise RequestError(f"--{name} takes no value")
                self.values[slot.group, slot.field.name] = on
                return True
        return False

    def _find(self, name: str, words: list[str]) -> Slot:
        found = [
            slot for slot in self.slots if name in slot.names and not slot.field.option.positional
        ]
        if not found:
            known = [f"--{one}" for slot in self.slots for one in slot.names]
            raise UnknownNameError("option", f"--{name}", known)
        # After a method that has an option of this name, NAME=VALUE is still the common one.
        pairs = [slot for slot in found if slot.field.option.pairs and "=" in "".join(words[:1])]
        return (pairs or found)[0]

    def _take_option(self, slot: Slot, words: list[str], given: bool) -> None:
        if not words or (words[0].startswith("--") and not given):
            raise RequestError(f"{slot.shown} needs a value")
        taken = [words.pop(0)]
        while slot.many and words and not words[0].startswith("-"):
            taken.append(words.pop(0))
        self._set(slot, taken)

    def _set(self, slot: Slot, words: list[str]) -> None:
        place = slot.group, slot.field.name
        if slot.field.option.pairs:
            self.values.setdefault(place, {}).update(
                _pair(slot, words[0], self.values.get(place, {}))
            )
        elif slot.many:
            inner = typing.get_args(slot.field.kind)[0]
            values = tuple(_value(word, inner, slot.shown) for word in words)
            self.values[place] = self.values.get(place, ()) + values
        else:
            self.values[place] = read_value(slot, words[0])

    def made(self) -> Any:
        """The command."""
        for slot in self.slots:
            place = slot.group, slot.field.name
            if slot.field.default is MISSING and place not in self.values:
                raise RequestError(f"{slot.shown} is missing")
        groups = {item.name: item for item in fields_of(self.command) if item.group}
        made = {name: self._group(item) for name, item in groups.items() if name != METHOD}
        own = {name: value for (group, name), value in self.values.items() if not group}
        if self.method is not None:
            made[METHOD] = self.method.preset(self.preset, **self._of(METHOD))
        return self.command(**own, **made)

    def _of(self, group: str) -> dict[str, Any]:
        return {name: value for (held_by, name), value in self.values.items() if held_by == group}

    def _group(self, item: Field) -> Any:
        values = self._of(item.name)
        if item.default is MISSING:
            return item.kind(**values)
        return dataclasses.replace(item.default, **values)


def _pair(slot: Slot, text: str, known: dict[str, Any]) -> dict[str, Any]:
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise RequestError(f"{slot.shown} takes {slot.field.option.metavar}, got {text!r}")
    if name in known:
        raise RequestError(f"{slot.shown} is given twice for {name!r}; every name must be its own")
    read = slot.field.option.read
    return {name: value if read is None else read(value)}


def read_value(slot: Slot, text: str) -> Any:
    """The value of an option, from one word.

    Raises:
        RequestError: the word makes no sense.
    """
    if slot.field.option.read is not None:
        optional = type(None) in typing.get_args(slot.field.kind)
        return None if optional and text == "None" else slot.field.option.read(text)
    return _value(text, slot.field.kind, slot.shown)


def _value(text: str, kind: Any, what: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if text not in inner:
            raise UnknownNameError(f"value of {what}", text, inner)
        return text
    if origin in (typing.Union, types.UnionType):
        if type(None) in inner and text == "None":
            return None
        return _value(text, next(one for one in inner if one is not type(None)), what)
    try:
        return kind(text)
    except (ValueError, OverflowError):
        raise RequestError(f"{what} takes {_KINDS[kind]}, got {text!r}") from None
