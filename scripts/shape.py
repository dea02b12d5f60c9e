"""Measure the package: lines of code, lengths of files and functions, imports that go both ways.

Ends non-zero where a file or the functions are longer than agreed, or where two modules import each
other; imports under TYPE_CHECKING and inside functions count too.

    python scripts/shape.py [FOLDER]
"""

import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "collegium"
LONGEST_FILE = 400
"""Lines of a file, blank ones and docstrings included."""
MEDIAN, NINETIETH = 8, 25
"""Lines of code of a function: at most so many for half of the functions, and for 90 %."""
_NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """One module of the package.

    Attributes:
        path: its file.
        name: its dotted name; a package is named by its folder.
    """

    path: Path
    name: str

    @cached_property
    def text(self) -> str:
        """What is in the file."""
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree of the file."""
        return ast.parse(self.text)

    @cached_property
    def code_lines(self) -> frozenset[int]:
        """Numbers of the lines that hold code: no docstrings, comments or blank lines."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        code = {
            line
            for token in tokens
            if token.type not in _NOT_CODE
            for line in range(token.start[0], token.end[0] + 1)
        }
        return frozenset(code - {line for lines in self._strings_alone() for line in lines})

    def _strings_alone(self) -> Iterator[range]:
        """Lines of strings that are statements: docstrings, also those of attributes."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Expr(value=ast.Constant(value=str())):
                    yield range(node.lineno, (node.end_lineno or node.lineno) + 1)

    def function_lengths(self) -> Iterator[tuple[int, str]]:
        """Lines of code of each function, with its signature, and where it stands."""
        for node in ast.walk(self.tree):
            if isinstance(node, _FUNCTIONS):
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                where = f"{self.path.name}:{node.lineno} {node.name}"
                yield len(self.code_lines.intersection(lines)), where

    def imports(self, modules: frozenset[str]) -> set[str]:
        """Modules of the package that this one imports, anywhere in its text."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                names = {f"{base}.{alias.name}" for alias in node.names}
                found |= {name if name in modules else base for name in names}
        return (found & modules) - {self.name}

    def _absolute(self, node: ast.ImportFrom) -> str:
        """The dotted name that an import names, without leading dots."""
        if not node.level:
            return node.module or ""
        is_package = self.path.name == "__init__.py"
        parts = self.name.split(".")
        parts = parts[: len(parts) - node.level + is_package]
        return ".".join([*parts, *filter(None, [node.module])])


def sources(root: Path) -> list[Source]:
    """Every module of the package in that checkout."""
    found = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        found.append(Source(path, name.removesuffix(".__init__")))
    return found


def long_files(package: list[Source]) -> list[str]:
    """Complaints about files with too many lines."""
    counts = {source.path: len(source.text.splitlines()) for source in package}
    return [
        f"{path} has {count} lines, at most {LONGEST_FILE}"
        for path, count in counts.items()
        if count > LONGEST_FILE
    ]


def two_way_imports(package: list[Source]) -> list[str]:
    """Complaints about pairs of modules that import each other."""
    modules = frozenset(source.name for source in package)
    graph = {source.name: source.imports(modules) for source in package}
    return [
        f"{one} and {other} import each other"
        for one in graph
        for other in sorted(graph[one])
        if one < other and one in graph[other]
    ]


def long_functions(lengths: list[int]) -> list[str]:
    """Complaints about the lengths of all functions together."""
    middle, most = statistics.median(lengths), ninetieth(lengths)
    found = []
    if middle > MEDIAN:
        found.append(f"the median function has {middle:g} lines of code, at most {MEDIAN}")
    if most > NINETIETH:
        found.append(f"90 % of functions have at most {most} lines of code, not {NINETIETH}")
    return found


def ninetieth(lengths: list[int]) -> int:
    """The length that nine in ten do not exceed."""
    return sorted(lengths)[int(0.9 * (len(lengths) - 1))]


def main() -> int:
    """Print the counts and every complaint; give 1 where there is one."""
    package = sources(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT)
    functions = [pair for source in package for pair in source.function_lengths()]
    lengths = [length for length, _ in functions]
    longest, where = max(functions)
    print(
        f"shape: {sum(len(source.code_lines) for source in package)} lines of code in "
        f"{len(package)} files, {len(lengths)} functions: median {statistics.median(lengths):g}, "
        f"90 % at most {ninetieth(lengths)}, longest {longest} ({where})"
    )
    found = [*long_files(package), *long_functions(lengths), *two_way_imports(package)]
    print("\n".join(found), end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
