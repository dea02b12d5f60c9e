"""The help of a command, made from the same fields as its options."""

import shutil
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal

from collegium.cli.reader import METHOD, Slot, slots_of
from collegium.config.option import fields_of
from collegium.methods import DEFAULT, all_methods
from collegium.methods.base import AbstractMethod

_NARROW, _WIDE, _INDENT = 60, 100, 8
_WORDS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


def help_of(verb: str, command: type, words: Sequence[str]) -> str:
    """The help of a command; of a method too, where the words name one."""
    methods = all_methods() if any(item.name == METHOD for item in fields_of(command)) else {}
    chosen = next((methods[word] for word in words if word in methods), None)
    slots = slots_of(command)
    parts = [_usage(verb, slots, chosen, bool(methods)), "", _wrapped(_text(command), 0)]
    if chosen is not None:
        parts += ["", f"{chosen.slug}: {_wrapped(_description(chosen), 0)}"]
        parts += [line for slot in slots_of(chosen, METHOD) for line in _lines(slot)]
    elif methods:
        parts += ["", *_list_of(methods)]
    held = {item.name: item for item in fields_of(command)}
    for group in dict.fromkeys(slot.group for slot in slots):
        title = "options" if not group else _text(held[group].kind).partition("\n")[0].rstrip(".")
        parts += ["", f"{title}:"]
        parts += [line for slot in slots if slot.group == group for line in _lines(slot)]
    return "\n".join(parts)


def _usage(verb: str, slots: Sequence[Slot], chosen: Any, methods: bool) -> str:
    needed = [slot for slot in slots if slot.field.default is MISSING]
    places = [slot for slot in slots if slot.field.option.positional]
    words = [f"{slot.shown} {_metavar(slot)}" for slot in needed if slot not in places]
    words += [slot.shown + " ..." * slot.many for slot in places]
    if methods:
        words.append(f"[{chosen.slug if chosen else 'METHOD'} [its options]]")
    return " ".join(["usage: collegium", verb, *words, "[options]"])


def _list_of(methods: dict[str, type[AbstractMethod]]) -> Iterator[str]:
    yield f"methods (`collegium distill METHOD --help` for their options; by default {DEFAULT}):"
    for slug, kind in methods.items():
        lines = textwrap.wrap(kind.summary(), _width() - 12, break_on_hyphens=False)
        yield f"  {slug:<10}" + ("\n" + 12 * " ").join(lines)


def _description(kind: type[AbstractMethod]) -> str:
    presets = ", ".join(kind.presets)
    return kind.summary() + (f" Presets (--preset NAME): {presets}." if presets else "")


def _lines(slot: Slot) -> Iterator[str]:
    names = ", ".join(f"--{name}" for name in slot.names)
    if slot.field.option.positional:
        yield f"  {slot.shown}"
    elif slot.field.kind is bool:
        yield f"  {names}, --no-{slot.names[0]}" if slot.field.default else f"  {names}"
    else:
        yield f"  {names} {_metavar(slot)}"
    text = f"{slot.field.help} {_default(slot)}".strip()
    if text:
        yield _wrapped(text, _INDENT)


def _default(slot: Slot) -> str:
    default = slot.field.default
    if default is MISSING:
        return "(required)"
    if default is None or default is False or default in ((), {}, ""):
        return ""
    return f"(default: {'on' if default is True else default})"


def _metavar(slot: Slot) -> str:
    return slot.field.option.metavar or _kind(slot.field.kind)


def _kind(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "|".join(map(str, inner))
    if origin is tuple:
        return f"{_kind(inner[0])} ..."
    if origin in (typing.Union, types.UnionType):
        return _kind(next(one for one in inner if one is not type(None)))
    return _WORDS.get(kind, "TEXT")


def _text(command: type) -> str:
    return " ".join((command.__doc__ or "").split())


def _width() -> int:
    return max(_NARROW, min(_WIDE, shutil.get_terminal_size().columns))


def _wrapped(text: str, indent: int) -> str:
    space = indent * " "
    return textwrap.fill(
        text, _width(), initial_indent=space, subsequent_indent=space, break_on_hyphens=False
    )
