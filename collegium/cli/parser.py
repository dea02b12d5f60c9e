"""The options of a command, read and described by argparse from the fields of its dataclass.

Every option is a field of that dataclass or of a group in it (`collegium.config.option`). This
module knows neither commands nor options, and imports no torch.
"""

import argparse
import inspect
import shutil
import textwrap
import types
import typing
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, replace
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar

from collegium.config.option import Field, fields_of
from collegium.errors import RequestError, UnknownNameError
from collegium.methods import DEFAULT, all_methods, find_method
from collegium.methods.base import AbstractMethod

C = TypeVar("C")
METHOD = "method"
"""The field whose value is chosen by a method's name, with the method's own options after it."""
_REST = "words from the method's name on"


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
    def place(self) -> str:
        """Its name among the values that were read."""
        return f"{self.group}.{self.field.name}"


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


def read_options(verb: str, command: type[C], words: Sequence[str]) -> C:
    """A command with the options that the words give.

    Raises:
        UnknownNameError: no such option or method.
        RequestError: a value that makes no sense, or an option that is missing.
    """
    slots, method = slots_of(command), None
    read = argparse.Namespace()
    _parse(_parser(verb, command), [*map(_dashes, words)], read)
    rest = vars(read).pop(_REST, [])
    if rest:
        method = find_method(rest[0])
        _parse(_parser(verb, command, method), rest[1:], read)
    values = vars(read)
    for slot in slots if method is None else [*slots, *slots_of(method, METHOD)]:
        if slot.field.default is MISSING and slot.place not in values:
            raise RequestError(f"{slot.shown} is missing")
    return _command(command, method, values)


def help_of(verb: str, command: type, words: Sequence[str]) -> str:
    """The help of a command; of a method too, where the words name one."""
    methods = all_methods() if _takes_method(command) else {}
    chosen = next((methods[word] for word in words if word in methods), None)
    parser = _parser(verb, command, chosen)
    if methods and chosen is None:
        parser.epilog = "\n".join(_list_of(methods))
    return parser.format_help().rstrip()


class _Parser(argparse.ArgumentParser):
    """Raises an error of ours where argparse would print its own and end the process."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(message.removeprefix("argument "))


class _Pairs(argparse.Action):
    """Collects NAME=VALUE; a value without a name belongs to the method's option of that name."""

    read: Callable[[str], Any]
    own: str

    def __call__(self, parser: Any, namespace: Any, text: Any, option: str | None = None) -> None:
        name, separator, value = text.partition("=")
        if self.own and not separator:
            setattr(namespace, self.own, text)
            return
        pairs = dict(getattr(namespace, self.dest, {}))
        if not (name and separator and value):
            raise RequestError(f"{option} takes {self.metavar}, got {text!r}")
        if name in pairs:
            raise RequestError(f"{option} is given twice for {name!r}; every name must be its own")
        setattr(namespace, self.dest, pairs | {name: self.read(value)})


def _parser(verb: str, command: type, method: type[AbstractMethod] | None = None) -> _Parser:
    slots = slots_of(command)
    parser = _Parser(
        usage=_usage(verb, command, slots, method),
        description=inspect.cleandoc(command.__doc__ or ""),
        formatter_class=_Formatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    own = {slot.names[0]: slot.place for slot in slots_of(method, METHOD)} if method else {}
    paired = {slot.names[0] for slot in slots if slot.field.option.pairs}
    if method is not None:
        section = parser.add_argument_group(f"{method.slug}: {_summary(method)}")
        section.add_argument("--preset", metavar="NAME", help="One of the method's presets.")
        for slot in slots_of(method, METHOD):
            if slot.names[0] not in paired:
                _add(section, slot)
    sections: dict[str, Any] = {}
    for slot in slots:
        if slot.group not in sections:
            sections[slot.group] = parser.add_argument_group(_title(command, slot.group))
        if not own.keys() & set(slot.names) or slot.names[0] in paired:
            _add(sections[slot.group], slot, own.get(slot.names[0], ""))
    if _takes_method(command) and method is None:
        parser.add_argument(_REST, nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _add(section: Any, slot: Slot, own: str = "") -> None:
    option, kind = slot.field.option, slot.field.kind
    names = [slot.place] if option.positional else [f"--{name}" for name in slot.names]
    how: dict[str, Any] = {"help": _help(slot)}
    if not option.positional:
        how["dest"] = slot.place
    if option.pairs:
        action = section.add_argument(*names, action=_Pairs, metavar=option.metavar, **how)
        action.read, action.own = option.read or str, own
        return
    if kind is bool:
        both = argparse.BooleanOptionalAction
        section.add_argument(*names, action=both if slot.field.default else "store_true", **how)
        return
    many = typing.get_origin(kind) is tuple and option.read is None
    inner = typing.get_args(kind)[0] if many else kind
    choices = _choices(inner)
    how["type"] = _reader(inner, option.read)
    how["metavar"] = option.metavar or ("|".join(choices) if choices else slot.names[-1].upper())
    if choices and not option.read:
        how["choices"] = [*choices, None] if type(None) in typing.get_args(inner) else choices
    if many:
        how |= {"nargs": "*" if option.positional else "+", "action": "extend"}
    elif option.positional:
        how["nargs"] = "?"
    section.add_argument(*names, **how)


def _choices(kind: Any) -> list[str]:
    """The values of a Literal, or of one that may also be None."""
    literals = [one for one in _alternatives(kind) if typing.get_origin(one) is Literal]
    return [str(value) for one in literals for value in typing.get_args(one)]


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union but None; of another type itself."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    kinds = typing.get_args(kind) if union else (kind,)
    return tuple(inner for inner in kinds if inner is not type(None))


def _reader(kind: Any, read: Callable[[str], Any] | None) -> Callable[[str], Any]:
    """What makes a value from one word; "None" is None where the type has it."""
    optional = type(None) in typing.get_args(kind)
    inner = _alternatives(kind)[0]
    make = read or (str if typing.get_origin(inner) is Literal else inner)

    def value(text: str) -> Any:
        return None if optional and text == "None" else make(text)

    value.__name__ = getattr(make, "__name__", "value")
    return value


def _parse(parser: _Parser, words: list[str], into: argparse.Namespace) -> None:
    _, unknown = parser.parse_known_args(words, into)
    if not unknown:
        return
    if not unknown[0].startswith("-"):
        raise RequestError(f"unexpected word {unknown[0]!r}; options begin with --")
    name = unknown[0].partition("=")[0]
    known = [text for action in parser._actions for text in action.option_strings]
    if any(action.dest == _REST for action in parser._actions):
        hint = "a method's own options come after its name"
        raise RequestError(f"{UnknownNameError('option', name, known)}; {hint}")
    raise UnknownNameError("option", name, known)


def _dashes(word: str) -> str:
    """The word with dashes for underscores in the name of an option."""
    name, separator, value = word.partition("=")
    return name.replace("_", "-") + separator + value if word.startswith("--") else word


def _command(command: type[C], method: type[AbstractMethod] | None, values: dict[str, Any]) -> C:
    preset, of = values.pop("preset", "default"), defaultdict[str, dict[str, Any]](dict)
    for place, value in values.items():
        group, _, name = place.partition(".")
        of[group][name] = tuple(value) if isinstance(value, list) else value
    made = of[""]
    for item in fields_of(command):
        if item.group and item.name != METHOD:
            start = item.kind if item.default is MISSING else partial(replace, item.default)
            made[item.name] = start(**of[item.name])
    if method is not None:
        made[METHOD] = method.preset(preset, **of[METHOD])
    return command(**made)


def _takes_method(command: type) -> bool:
    return any(item.name == METHOD for item in fields_of(command))


def _usage(verb: str, command: type, slots: Sequence[Slot], method: Any) -> str:
    places = [slot for slot in slots if slot.field.option.positional]
    needed = [slot for slot in slots if slot.field.default is MISSING and slot not in places]
    words = [f"{slot.shown} {slot.names[-1].upper()}" for slot in needed]
    words += [slot.shown for slot in places]
    if _takes_method(command):
        words.append(f"[{method.slug if method else 'METHOD'} [its options]]")
    return " ".join(["collegium", verb, *words, "[options]"])


def _title(command: type, group: str) -> str:
    kinds = {item.name: item.kind for item in fields_of(command)}
    return (kinds[group].__doc__ or "").partition("\n")[0].rstrip(".") if group else "options"


def _summary(method: type[AbstractMethod]) -> str:
    presets = ", ".join(method.presets)
    return method.summary() + (f" Presets (--preset NAME): {presets}." if presets else "")


def _help(slot: Slot) -> str:
    default = slot.field.default
    if default is MISSING:
        note = "(required)"
    elif default is None or default is False or default in ((), {}, ""):
        note = ""
    else:
        note = f"(default: {'on' if default is True else default})"
    return f"{slot.field.help} {note}".strip().replace("%", "%%")


def _width() -> int:
    return max(60, min(100, shutil.get_terminal_size().columns))


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help texts below the options; names with hyphens stay whole."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=8, width=_width())

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def _list_of(methods: dict[str, type[AbstractMethod]]) -> Iterator[str]:
    yield f"methods (`collegium distill METHOD --help` for their options; by default {DEFAULT}):"
    for slug, kind in methods.items():
        lines = textwrap.wrap(kind.summary(), _width() - 12, break_on_hyphens=False)
        yield f"  {slug:<10}" + ("\n" + 12 * " ").join(lines)
