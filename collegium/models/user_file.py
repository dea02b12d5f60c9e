"""A user's Python file, run beside its neighbours: the one way to run code that is not ours.

Modules of the file's folder (and of the package it is part of) are imported under names of their
own, so that files of one name in two folders do not meet in `sys.modules`; what was imported, also
later and inside of a function, is part of what the file is.
"""

import ast
import builtins
import contextlib
import importlib
import importlib.util
import itertools
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

from collegium.errors import RequestError, UnknownNameError
from collegium.models.source_code import code_digest, is_library

_PREFIX = "collegium_user_"
_NUMBERS = itertools.count()
_AS_INSTALLED = (*sys.stdlib_module_names, "collegium", "torch")
"""Top-level names that are never a neighbour's."""
_LOADED: dict[Path, "UserFile"] = {}
_OWNERS: dict[str, "UserFile"] = {}


class UserFile:
    """A file that was run.

    Args:
        path: of the file.

    Raises:
        RequestError: it cannot be run, with the file and the line where it fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.folder = self.root = self.path.parent
        while (self.root / "__init__.py").is_file() and self.root != self.root.parent:
            self.root = self.root.parent
        self.name = f"{_PREFIX}{next(_NUMBERS)}_{path.stem}"
        self._sources: dict[Path, bytes] = {}
        self._outside: dict[str, Path] = {}
        self.builtins = {**vars(builtins), "__import__": self._import}
        package = types.ModuleType(self.name)
        package.__path__ = [str(self.root)]
        sys.modules[self.name], _OWNERS[self.name] = package, self
        if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        try:
            with self.running(f"model file {path}"):
                self.module = self._run()
        except BaseException:
            self._forget()
            raise

    def _run(self) -> types.ModuleType:
        parts = self.path.relative_to(self.root).with_suffix("").parts
        name = ".".join((self.name, *parts))
        if self._needs_package(parts[0]):
            return importlib.import_module(name)
        spec = importlib.util.spec_from_loader(name, _Source(name, str(self.path), self))
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        module.__spec__.loader.exec_module(module)  # type: ignore[union-attr]
        return module

    def _needs_package(self, top: str) -> bool:
        """Whether it imports from the package it is in: then that one is run first, as usual."""
        if self.folder == self.root:
            return False
        imports = _imports(_statements(self.path.read_bytes()))
        return any(level > 0 or name.partition(".")[0] == top for level, name, _ in imports)

    def _forget(self) -> None:
        for name in [n for n in sys.modules if n == self.name or n.startswith(f"{self.name}.")]:
            del sys.modules[name]
        _OWNERS.pop(self.name, None)

    def function(self, name: str) -> Callable[..., Any]:
        """A function or class of the file.

        Raises:
            UnknownNameError: there is none of that name.
        """
        found: Any = getattr(self.module, name, None)
        if not callable(found):
            kinds = (types.FunctionType, type)
            known = {n: one for n, one in vars(self.module).items() if isinstance(one, kinds)}
            own = [n for n, one in known.items() if one.__module__ == self.module.__name__]
            raise UnknownNameError(f"function of {self.path}", name, own or known)
        return found

    @contextlib.contextmanager
    def running(self, where: str) -> Iterator[None]:
        """Run some of the user's code inside.

        Modules imported by name (importlib) are found beside the file and get names of their own.

        Raises:
            RequestError: it fails; with the file and the line.
        """
        before = set(sys.modules)
        sys.path.insert(0, str(self.folder))
        try:
            yield
        except RequestError:
            raise
        except (Exception, SystemExit) as error:
            raise RequestError(f"{where} failed{self._at(error)}: {self._reason(error)}") from error
        finally:
            if str(self.folder) in sys.path:
                sys.path.remove(str(self.folder))
            self._take_in(set(sys.modules) - before)

    def _at(self, error: BaseException) -> str:
        """Where in the user's files."""
        if isinstance(error, SyntaxError) and error.filename:
            return f" at {self._called(error.filename)}:{error.lineno}"
        found = ""
        for frame, line in traceback.walk_tb(error.__traceback__):
            file = frame.f_code.co_filename
            if not file.startswith("<") and not is_library(file):
                found = f" at {self._called(file)}:{line}"
        return found

    def _called(self, file: str) -> str:
        path = Path(file)
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else file

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, SystemExit):
            return f"it ended the program (exit code {error.code})"
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        line = (text.splitlines() or [""])[0].replace(f"{self.name}.", "")
        return f"{type(error).__name__}: {line}"

    def _take_in(self, names: set[str]) -> None:
        """Neighbours that were imported under their plain names get names of their own."""
        for name in names:
            module = sys.modules.get(name)
            file = getattr(module, "__file__", None)
            if module is None or file is None or name.startswith(_PREFIX) or is_library(file):
                continue
            if Path(file).resolve().is_relative_to(self.folder):
                self._outside[f"{name}.py"] = Path(file)
                sys.modules[f"{self.name}.{name}"] = sys.modules.pop(name)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        """What `import` does in the user's files."""
        top = name.partition(".")[0]
        package = self._package_of(top) if level == 0 else None
        if package is None:
            found = builtins.__import__(name, globals, locals, fromlist, level)
            self._note(name, level)
            return found
        found = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or ("",), 0)
        return found if fromlist else sys.modules[f"{package}.{top}"]

    def _package_of(self, top: str) -> str | None:
        """Under which package of ours a top-level name is found; None where it is installed."""
        if top in _AS_INSTALLED:
            return None
        inside = ".".join((self.name, *self.folder.relative_to(self.root).parts))
        for base, package in {self.folder: inside, self.root: self.name}.items():
            files = (f"{top}.py", f"{top}/__init__.py", *(f"{top}{s}" for s in EXTENSION_SUFFIXES))
            if any((base / file).is_file() for file in files):
                return package
            if (base / top).is_dir() and not _is_importable(top):
                return package
        return None

    def _note(self, name: str, level: int) -> None:
        """Add the source of a module elsewhere that is no library."""
        if level == 0 and not name.startswith(_PREFIX):
            file = getattr(sys.modules.get(name), "__file__", None)
            if file is not None and not is_library(file):
                self._outside[f"{name}.py"] = Path(file)

    def read(self, path: Path) -> bytes:
        """The source of a module that is run now."""
        content = path.read_bytes()
        self._sources[path.resolve()] = content
        return content

    def is_current(self) -> bool:
        """Whether every file that was run is what it was."""
        try:
            return all(path.read_bytes() == content for path, content in self._sources.items())
        except OSError:
            return False

    def code(self) -> dict[str, str]:
        """By file, as seen from its folder: the digest of what was run, or is imported later."""
        found, waiting = dict(self._sources), list(self._sources)
        while waiting:
            place = waiting.pop()
            for path in self._neighbours(place, found[place]):
                if path not in found:
                    found[path] = path.read_bytes()
                    waiting.append(path)
        sources = {self._called(str(path)): content for path, content in found.items()}
        sources |= {name: path.read_bytes() for name, path in self._outside.items()}
        return {name: code_digest(sources[name]) for name in sorted(sources)}

    def _neighbours(self, place: Path, source: bytes) -> Iterator[Path]:
        """Files beside this one that its source names in an import, run so far or not."""
        for level, name, names in _imports(_statements(source)):
            if not level and name.partition(".")[0] in _AS_INSTALLED:
                continue
            bases = (self.folder, self.root)
            if level:
                bases = (place.parents[min(level, len(place.parents)) - 1],) * 2
            for base in dict.fromkeys(bases):
                files = _files_of(base, [name, *(f"{name}.{one}" for one in names)])
                yield from (path for path in files if path.is_relative_to(self.root))


def _statements(source: bytes) -> list[ast.stmt]:
    """The statements of a source; none if it has errors, which running it will report."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return []


def _imports(body: list[ast.stmt]) -> Iterator[tuple[int, str, list[str]]]:
    """Level, module and names of every import, but for those of type checkers and of scripts."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]
        elif isinstance(node, ast.If) and _is_aside(node.test):
            yield from _imports(node.orelse)
        else:
            for _, value in ast.iter_fields(node):
                for inner in value if isinstance(value, list) else ():
                    if isinstance(inner, ast.stmt):
                        yield from _imports([inner])
                    elif isinstance(inner, ast.ExceptHandler | ast.match_case):
                        yield from _imports(inner.body)


def _is_aside(test: ast.expr) -> bool:
    text = ast.unparse(test)
    return text.endswith("TYPE_CHECKING") or ("__name__" in text and "__main__" in text)


def _files_of(base: Path, dotted: list[str]) -> Iterator[Path]:
    for name in dotted:
        place = base
        for part in name.strip(".").split("."):
            place = place / part if part else place
            for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
                if place != base and path.is_file():
                    yield path.resolve()


def _is_importable(name: str) -> bool:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.loader is not None


class _Source(SourceFileLoader):
    """Runs the bytes that are hashed: a cached compilation may be of a file edited since."""

    def __init__(self, name: str, path: str, owner: UserFile) -> None:
        super().__init__(name, path)
        self._owner = owner

    def get_code(self, fullname: str) -> types.CodeType:
        path = Path(self.get_filename(fullname))
        return compile(self._owner.read(path), str(path), "exec", dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        vars(module)["__builtins__"] = self._owner.builtins
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the neighbours of users' files, and nothing else."""

    def find_spec(
        self, name: str, path: Any = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """A module whose name begins with that of a user's file."""
        owner = _OWNERS.get(name.partition(".")[0])
        if owner is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Source(name, spec.loader.path, owner)
        return spec


def user_file(path: Path) -> UserFile:
    """A user's file, run; once, as long as nothing of it changes.

    Raises:
        RequestError: there is no such file, or it fails.
    """
    if not path.is_file():
        raise RequestError(f"model file {path}: no such file")
    place = path.resolve()
    known = _LOADED.get(place)
    if known is None or not known.is_current():
        known = _LOADED[place] = UserFile(path)
    return known
