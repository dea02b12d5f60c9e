"""Digests of users' source code, without comments, blank lines and docstrings."""

import ast
import hashlib
import inspect
import io
import site
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from collegium.utils.files import json_object

Code = Mapping[str, str]
"""By file or class: SHA-256 of its source without what does not count; empty where none was had."""

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_OUR_OWN = ("collegium", "torch")


def code_digest(source: bytes) -> str:
    r"""SHA-256 of a Python source; comments, blank lines, docstrings and line ends do not count.

    The tree or the tokens themselves are not hashed: they differ between versions of Python.

    >>> code_digest(b"x = 1  # one") == code_digest(b'\n"A module."\n\nx = 1')
    True
    """
    try:
        content = "\n".join(_counting(source)).encode(errors="surrogatepass")
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError):
        content = source
    return hashlib.sha256(content).hexdigest()


def _counting(source: bytes) -> Iterator[str]:
    """The lines that count; those inside of a string as they are."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    text = source.decode(encoding).replace("\r\n", "\n").lstrip("\ufeff")
    dropped = _docstrings(ast.parse(text))
    comments: dict[int, int] = {}
    inside: set[int] = set()
    opened = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        if name == "COMMENT":
            comments[token.start[0]] = token.start[1]
        elif name == "STRING":
            inside |= set(range(token.start[0], token.end[0]))
        elif name.endswith("STRING_START"):  # of an f-string, from Python 3.12 on
            opened.append(token.start[0])
        elif name.endswith("STRING_END"):
            inside |= set(range(opened.pop(), token.end[0]))
    for number, line in enumerate(text.split("\n"), 1):
        if number in dropped:
            continue
        kept = line[: comments.get(number, len(line))]
        kept = kept if number in inside else kept.rstrip()
        if kept or number in inside:
            yield kept


def _docstrings(tree: ast.AST) -> set[int]:
    """Numbers of the lines that docstrings have for themselves."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, _DOCUMENTED) or ast.get_docstring(node, clean=False) is None:
            continue
        text, last = node.body[0], node.body[0].end_lineno or node.body[0].lineno
        # A function needs a body, and other statements may share its lines.
        follows = node.body[1].lineno if len(node.body) > 1 else last + isinstance(node, ast.Module)
        if text.lineno > getattr(node, "lineno", 0) and follows > last:
            lines |= set(range(text.lineno, last + 1))
    return lines


@cache
def _installed() -> tuple[Path, ...]:
    """Folders of libraries, which are identified by version instead of source."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = [sysconfig.get_paths().get(kind) for kind in kinds]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple({Path(path).resolve() for path in paths if path})


def is_library(file: str | Path | None) -> bool:
    """Whether a module is installed, or built in, and so not the user's code."""
    if file is None:
        return True
    path = Path(file).resolve()
    ours = [Path(sys.modules[name].__file__ or "").resolve().parent for name in _OUR_OWN]
    if any(path.is_relative_to(folder) for folder in (*_installed(), *ours)):
        return True
    return any(_holds_libraries(folder) for folder in path.parents)


@cache
def _holds_libraries(folder: Path) -> bool:
    """Whether packages were installed into this folder: pip notes there what it put."""
    return any(folder.glob("*.dist-info"))


def code_of_module(module: nn.Module) -> dict[str, str]:
    """What can be known of the code of a network given from Python: its classes' sources.

    Args:
        module: the network.

    Returns:
        By qualified name, the digest of every class that is no library's; empty where its source
        cannot be had (typed in an interpreter). Functions that its classes call are not in it.
    """
    kinds = {kind for part in module.modules() for kind in type(part).__mro__}
    found = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in kinds if _is_own(kind)}
    return {name: _digest_of_class(found[name]) for name in sorted(found)}


def _is_own(kind: type[Any]) -> bool:
    module = sys.modules.get(kind.__module__)
    if kind.__module__ in ("builtins", "abc", "typing"):
        return False
    file = getattr(module, "__file__", None)
    # Without a file it was typed in: somebody's own, as are the classes of a script.
    typed_in = module is None or (kind.__module__ == "__main__" and file is None)
    return typed_in or not is_library(file)


def _digest_of_class(kind: type[Any]) -> str:
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError, SyntaxError, IndexError):
        return ""
    return code_digest(inspect.cleandoc("\n" + source).encode(errors="surrogatepass"))


def recorded_code(metadata: Mapping[str, str]) -> dict[str, str]:
    """Digests of the code that trained a weights file; empty if it has none."""
    found = json_object(metadata.get("code", "{}")) or {}
    return {str(name): str(digest) for name, digest in found.items()}


def differing(was: Code, now: Code) -> list[str]:
    """Files or classes whose source is known then and now, and is not the same; gone or new."""
    return [
        name
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name) and "" not in (was.get(name), now.get(name))
    ]


def whole_digest(code: Code) -> str:
    """One digest for all of it; empty where there is none."""
    if not code:
        return ""
    text = "".join(f"{name} {code[name]}\n" for name in sorted(code))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
