"""Write docs/papers.md from the methods themselves; with --check, only say whether it is current.

Run it by `scripts/docs`.
"""

import ast
import dataclasses
import inspect
import itertools
import sys
import textwrap
from pathlib import Path

from collegium.methods import all_methods
from collegium.methods.base import AbstractMethod

PAGE = Path(__file__).resolve().parent.parent / "docs" / "papers.md"
INTRODUCTION = """# Papers

One section a method: what it does, its source, its options and defaults, its presets. Made by
`scripts/docs` from `collegium/methods/`; `collegium methods SLUG` and `collegium cite SLUG` say the
same on the command line."""


def page() -> str:
    """The whole page."""
    ours = {k: v for k, v in all_methods().items() if v.__module__.startswith("collegium.")}
    sections = [INTRODUCTION, *(section(slug, kind) for slug, kind in ours.items())]
    return "\n\n".join(sections) + "\n"


def section(slug: str, kind: type[AbstractMethod]) -> str:
    """One method."""
    parts = [f"## `{slug}`", f"```text\n{prose(kind)}\n```", f"Needs: {kind.needs}."]
    parts += [options(kind)] if dataclasses.fields(kind) else []
    parts += [presets(kind)] if kind.presets else []
    parts += [f"```bibtex\n{kind.citation()}\n```"]
    return "\n\n".join(parts)


def prose(kind: type[AbstractMethod]) -> str:
    """The docstring without its doctest, which is for those who read the code."""
    return inspect.cleandoc(kind.__doc__ or "").partition(">>>")[0].strip()


def options(kind: type[AbstractMethod]) -> str:
    """A table of the hyperparameters."""
    meaning = meanings(kind)
    rows = [
        f"| `--{field.name.replace('_', '-')}` | {value(field.default)} | {meaning[field.name]} |"
        for field in dataclasses.fields(kind)
    ]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows])


def presets(kind: type[AbstractMethod]) -> str:
    """What each preset changes from the defaults."""
    rows = [
        f"| `{name}` | {', '.join(f'`{key}` {value(new)}' for key, new in changes.items())} |"
        for name, changes in kind.presets.items()
    ]
    return "\n".join(["| `--preset` | changes |", "|---|---|", *rows])


def value(default: object) -> str:
    """A default as a reader wants it."""
    if isinstance(default, float):
        return f"{default:.4g}"
    return "none" if default in (None, ()) else str(default)


def meanings(kind: type[AbstractMethod]) -> dict[str, str]:
    """The docstring under each field, which no object keeps: it is read in the source."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        found |= own_meanings(base)
    return found


def own_meanings(kind: type) -> dict[str, str]:
    """Those of the fields that a class itself declares."""
    if not kind.__module__.startswith("collegium"):
        return {}
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            said = ast.literal_eval(text.value)
            found[ast.unparse(field.target)] = inspect.cleandoc(said).replace("|", "\\|")
    return found


def main() -> int:
    """Write, or check."""
    if "--check" not in sys.argv:
        PAGE.write_text(page())
        return 0
    if not PAGE.is_file() or PAGE.read_text() != page():
        print("docs/papers.md is not current: run scripts/docs", file=sys.stderr)
        return 1
    print("docs: papers.md is current")
    return 0


if __name__ == "__main__":
    sys.exit(main())
