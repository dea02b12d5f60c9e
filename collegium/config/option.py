"""An option: a field of a dataclass. Its type, default, help text and marks are read from there.

The command line, `collegium.distill`, run.json and the documentation are made from these fields.
The help text of a field is the string below it. Imports no torch.
"""

import ast
import dataclasses
import functools
import itertools
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from collegium.utils.from_json import annotations

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """Marks of an option, given as `Annotated[TYPE, Option(...)]`; none are needed for most.

    Attributes:
        decides: whether two runs that differ in it are different runs.
        hashed: whether run.json holds a hash of what it names, which decides in its place.
        name: on the command line, where it is not the field's.
        also: other names there.
        metavar: what its value is called in the help.
        read: makes its value from one word.
        pairs: whether it is given as NAME=VALUE, once for each name.
        positional: whether it is given without its name.
    """

    decides: bool = True
    hashed: bool = False
    name: str = ""
    also: tuple[str, ...] = ()
    metavar: str = ""
    read: Callable[[str], Any] | None = None
    pairs: bool = False
    positional: bool = False


Aside = Annotated[T, Option(decides=False)]
"""The type of an option that does not decide which run it is."""


@dataclass(frozen=True)
class Field:
    """A field of a dataclass of options.

    Attributes:
        name: of the field.
        kind: its type.
        default: `dataclasses.MISSING` where it must be given.
        help: its help text on one line.
        option: its marks.
    """

    name: str
    kind: Any
    default: Any
    help: str
    option: Option

    @property
    def group(self) -> bool:
        """Whether it holds a dataclass of further options."""
        return isinstance(self.kind, type) and dataclasses.is_dataclass(self.kind)


def fields_of(group: Any) -> Iterator[Field]:
    """The options of a dataclass, in order; of an instance with its values as defaults.

    >>> from collegium.config.options import Machine
    >>> next(field.option.decides for field in fields_of(Machine) if field.name == "threads")
    False
    """
    kind = group if isinstance(group, type) else type(group)
    kinds, texts = annotations(kind), help_texts(kind)
    for field in dataclasses.fields(kind):
        given = MISSING if group is kind else getattr(group, field.name)
        hint, marks = kinds[field.name], Option()
        if typing.get_origin(hint) is Annotated:
            marks = next((m for m in hint.__metadata__ if isinstance(m, Option)), marks)
            hint = hint.__origin__
        default = _default(field) if given is MISSING else given
        text = texts.get(field.name) or field.metadata.get("help", "")
        yield Field(field.name, hint, default, text, marks)


def changeable(group: type, remark: str) -> type:
    """A dataclass of the options of a group that do not decide, each None where it is not given.

    Args:
        group: the dataclass.
        remark: added to each help text.
    """
    rows: list[Any] = []
    for item in fields_of(group):
        if not item.option.decides:
            text = {"help": f"{item.help} {remark}"}
            kind = Annotated[item.kind | None, item.option]
            rows.append((item.name, kind, dataclasses.field(default=None, metadata=text)))
    namespace = {"__module__": __name__, "__doc__": group.__doc__}
    return dataclasses.make_dataclass(
        f"{group.__name__}Change", rows, namespace=namespace, frozen=True
    )


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


@functools.cache
def help_texts(kind: type) -> dict[str, str]:
    """The string below each field of a dataclass and of its bases, on one line."""
    found: dict[str, str] = {}
    for base in filter(dataclasses.is_dataclass, reversed(kind.__mro__)):
        body = _classes(base.__module__).get(base.__name__, [])
        for statement, after in itertools.pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                match after:
                    case ast.Expr(ast.Constant(str(text))):
                        found[statement.target.id] = " ".join(text.split())
    return found


@functools.cache
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    """The bodies of the classes of a module; none where its source is not installed."""
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None or not Path(path).is_file():
        return {}
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}
