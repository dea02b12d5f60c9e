"""Parts that have a name: ours and those that installed packages add, one registry for each kind.

A part is a class with `slug = "NAME"`. Ours are found in the source of a package, so the names are
known before any module is imported (the command line needs them without torch). Another package
adds a part through an entry point of its pyproject.toml:

    [project.entry-points."collegium.methods"]
    mymethod = "mypackage.method:MyMethod"
"""

import inspect
import logging
import re
from functools import cache, cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from collegium.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")
_CLASS_OR_SLUG = re.compile(r'^class (\w+)|^    slug = "([^"]+)"$', re.MULTILINE)


def declared(package: str) -> dict[str, tuple[str, str]]:
    """The classes with a slug in the modules of one of our packages; imports nothing.

    Args:
        package: "collegium.methods".

    Returns:
        By slug, in alphabetical order: the module and the name of the class.
    """
    folder = Path(__file__).parents[1].joinpath(*package.split(".")[1:])
    found: dict[str, tuple[str, str]] = {}
    for path in (*folder.glob("*.py"), *folder.glob("*/__init__.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        module = ".".join((package, *parts)).removesuffix(".__init__")
        name = ""
        for latest, slug in _CLASS_OR_SLUG.findall(path.read_text("utf-8")):
            name = latest or name
            if slug:
                found[slug] = module, name
    return dict(sorted(found.items()))


class Registry(Generic[T]):
    """The parts of one kind by name.

    Args:
        kind: what messages call a part, such as "method".
        group: of the entry points by which other packages add parts, such as "collegium.methods".
        base: MODULE:CLASS that every part derives from.
        packages: ours, whose modules declare parts.
    """

    def __init__(self, kind: str, group: str, base: str, *packages: str) -> None:
        self.kind, self.group = kind, group
        self._base, self._packages = base, packages
        self._reported: set[str] = set()

    def names(self) -> list[str]:
        """Every name in alphabetical order; no part is imported."""
        return sorted({*self._ours, *self._plugins})

    def find(self, name: str) -> type[T]:
        """The part of that name.

        Raises:
            UnknownNameError: there is none; the message names the closest.
            RequestError: another package adds it, and it cannot be used; the message says why.
        """
        if name in self._ours:
            return resolve_name(":".join(self._ours[name]))
        if name in self._plugins:
            return self._load(name, self._plugins[name])
        raise UnknownNameError(self.kind, name, self.names())

    def all(self) -> dict[str, type[T]]:
        """Every part that can be used, by name; a plug-in that fails is left out with a warning."""
        found: dict[str, type[T]] = {}
        for name in self.names():
            try:
                found[name] = self.find(name)
            except RequestError as error:
                self._report(str(error))
        return found

    @cached_property
    def _ours(self) -> dict[str, tuple[str, str]]:
        return dict(part for package in self._packages for part in declared(package).items())

    @cached_property
    def _plugins(self) -> "dict[str, list[EntryPoint]]":
        found: dict[str, list[EntryPoint]] = {}
        for point in _entry_points().select(group=self.group):
            if point.name in self._ours:
                self._report(f"{self._title(point)} is refused: collegium has one of that name")
            else:
                found.setdefault(point.name, []).append(point)
        return found

    def _load(self, name: str, points: "list[EntryPoint]") -> type[T]:
        if len(points) > 1:
            several = f"in several packages ({', '.join(sorted(map(_owner, points)))})"
            raise RequestError(f"{self.kind} {name} is {several}: uninstall all but one")
        (point,) = points
        try:
            part: type[T] = point.load()
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise RequestError(f"{self._title(point)} cannot be imported: {reason}") from error
        if problem := self._problem(part, name):
            raise RequestError(f"{self._title(point)} is refused: {point.value} {problem}")
        return part

    def _problem(self, part: Any, name: str) -> str:
        """Why what an entry point names is no part; empty where it is one."""
        base = resolve_name(self._base)
        if not (isinstance(part, type) and issubclass(part, base)):
            return f"is no subclass of {base.__module__}.{base.__name__}"
        if inspect.isabstract(part):
            return "does not define every abstract method"
        slug = getattr(part, "slug", None)
        return "" if slug == name else f"has slug = {slug!r}, expected {name!r}"

    def _title(self, point: "EntryPoint") -> str:
        return f"{self.kind} {point.name} of package {_owner(point)}"

    def _report(self, message: str) -> None:
        if message not in self._reported:
            self._reported.add(message)
            logger, line = logging.getLogger("collegium"), " ".join(message.split())
            # Our handler marks warnings itself; that of Python, without any other, does not.
            logger.warning("%s", line if logger.hasHandlers() else f"warning: {line}")


@cache
def _entry_points() -> Any:
    """Those of every installed package: the search takes tens of milliseconds."""
    from importlib.metadata import entry_points

    return entry_points()


def _owner(point: "EntryPoint") -> str:
    return point.dist.name if point.dist else "unknown"
