"""Methods by one string each, as tables of comparisons name them: SLUG[:option=value...]."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collegium.errors import RequestError, UnknownNameError
from collegium.methods import find_method
from collegium.methods.base import AbstractMethod
from collegium.methods.soft_target import AbstractFeature, AbstractSoftTarget
from collegium.methods.vanilla import Vanilla

BASELINE = Vanilla.slug
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class MethodSpec:
    """One line of a table.

    Attributes:
        name: the string that requested it.
        method: what it stands for.
        published: keeps its own temperature, alpha and label weight.
    """

    name: str
    method: AbstractMethod
    published: bool = False


def read_rows(
    text: str,
    temperature: float,
    alpha: float,
    published: bool = False,
    label_weight: float | None = AbstractSoftTarget.label_weight,
) -> list[MethodSpec]:
    """The rows a comma-separated list asks for, the student alone first, all at one strength.

    Args:
        text: SLUG[:option=value...], comma-separated; `preset` is an option, and the values of a
            list are joined by +, as in fixed:shares=a=1+b=2.
        temperature: of every soft target, unless the row itself names one.
        alpha: weight of every soft target, unless the row names one.
        published: add each method that has one once more, as its paper sets it.
        label_weight: of the label beside teachers, unless the row names one; None for what alpha
            leaves of 1.

    Raises:
        UnknownNameError: no such method, preset or option.
        RequestError: a value that makes no sense, the same row twice, or no row.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise RequestError(
            f"--methods has {', '.join(twice)} twice" if twice else "--methods names no method"
        )
    names = list(dict.fromkeys([BASELINE, *names]))
    strength = {"temperature": temperature, "alpha": alpha, "label_weight": label_weight}
    rows = [read_row(name, strength) for name in names]
    if published:
        rows += [own for own in map(_as_published, rows) if own is not None]
    return rows


def read_row(name: str, strength: Mapping[str, float | None]) -> MethodSpec:
    """One row; see `read_rows`.

    Args:
        name: SLUG[:option=value...].
        strength: `temperature`, `alpha` and `label_weight` of soft targets, unless the row names
            them.
    """
    slug, *words = name.split(":")
    kind = find_method(slug)
    given: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise RequestError(f"{name}: options are option=value, found {word!r}")
        given[key.replace("-", "_")] = value
    method = kind.preset(given.pop("preset", "default"))
    kinds = typing.get_type_hints(kind)
    fields = {field.name for field in dataclasses.fields(kind)}
    changes: dict[str, Any] = {}
    for key, value in given.items():
        if key not in fields:
            raise UnknownNameError(f"option of {slug}", key, sorted(fields | {"preset"}))
        changes[key] = _value(value, kinds[key], f"{name}: {key}")
    if isinstance(method, AbstractSoftTarget):
        own = {"alpha": 0.0} if isinstance(method, AbstractFeature) and not method.alpha else {}
        changes = {**strength, **own, **changes}
    return MethodSpec(name, dataclasses.replace(method, **changes))


def shared_strength(rows: Sequence[MethodSpec]) -> dict[str, float | None]:
    """The temperature, alpha and label weight of the rows that name none of their own."""
    found: dict[str, float | None] = {}
    for row in rows:
        method = row.method
        if row.published or not isinstance(method, AbstractSoftTarget):
            continue
        named = {word.partition("=")[0].replace("-", "_") for word in row.name.split(":")[1:]}
        for key in ("temperature", "alpha", "label_weight"):
            if key not in named and (key != "alpha" or not isinstance(method, AbstractFeature)):
                found[key] = getattr(method, key)
    return found


def _as_published(row: MethodSpec) -> MethodSpec | None:
    kind = type(row.method)
    if ":" in row.name:
        return None
    name = next((preset for preset in ("published", "figure") if preset in kind.presets), None)
    return MethodSpec(f"{row.name}:preset={name}", kind.preset(name), True) if name else None


def _value(text: str, kind: Any, what: str) -> Any:
    """Text as a value of that type."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        if text not in inside:
            raise UnknownNameError(what, text, [str(value) for value in inside])
        return text
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in inside:
            return None
        return _value(text, next(part for part in inside if part is not type(None)), what)
    if origin is tuple:
        return tuple(text.split("+"))
    try:
        return _TRUTH[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise RequestError(f"{what} takes {kind.__name__}, found {text!r}") from None


def folder_name(row: str) -> str:
    """A row's name as a folder's."""
    return "".join(letter if letter.isalnum() or letter in "-_.=" else "_" for letter in row)


def check_control(control: str | None, rows: Sequence[MethodSpec]) -> str:
    """The row others are compared with: the named one, else the plain mean, else the student alone.

    Raises:
        UnknownNameError: no row is called that.
    """
    names = [row.name for row in rows]
    if control is not None and control not in names:
        raise UnknownNameError("control", control, names)
    return control or ("avg_mkd" if "avg_mkd" in names else BASELINE)
