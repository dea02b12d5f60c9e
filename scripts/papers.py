"""Write docs/papers.md from the methods; with --check, only report whether it is current.

`scripts/docs` runs it.
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
from collegium.methods.soft_target import AbstractFeature, AbstractSoftTarget

PAGE = Path(__file__).resolve().parent.parent / "docs" / "papers.md"
FAMILIES = {
    AbstractSoftTarget: ("Options of soft targets", "Methods on logits have these options."),
    AbstractFeature: (
        "Options of features",
        "Methods on features have the options above, with these additions and defaults.",
    ),
}
"""Base classes whose options have a table of their own, with its title and first sentence."""
INTRODUCTION = """# Papers

One section per method: what it does, its source, its options with their defaults, and presets.
`collegium methods SLUG` and `collegium cite SLUG` print the same. `scripts/docs` writes this page
from `collegium/methods/`."""


def page() -> str:
    """The whole page."""
    ours = {k: v for k, v in all_methods().items() if v.__module__.startswith("collegium.")}
    sections = [INTRODUCTION, *(section(slug, kind) for slug, kind in ours.items())]
    sections[1:1] = [shared(family, *words) for family, words in FAMILIES.items()]
    return "\n\n".join(sections) + "\n"


def shared(family: type[AbstractMethod], title: str, sentence: str) -> str:
    """The options that all methods of a family have."""
    return f"## {title}\n\n{sentence}\n\n{table(new_rows(family))}"


def section(slug: str, kind: type[AbstractMethod]) -> str:
    """One method."""
    parts = [f"## `{slug}`", f"```text\n{prose(kind)}\n```", f"Needs: {kind.needs}."]
    parts += options(kind)
    parts += [presets(kind)] if kind.presets else []
    parts += [f"```bibtex\n{kind.citation()}\n```"]
    return "\n\n".join(parts)


def prose(kind: type[AbstractMethod]) -> str:
    """The docstring without its doctest."""
    return inspect.cleandoc(kind.__doc__ or "").partition(">>>")[0].strip()


def options(kind: type[AbstractMethod]) -> list[str]:
    """A table of the options that differ from those of its families, and links to these."""
    titles = [title for family, (title, _) in FAMILIES.items() if issubclass(kind, family)]
    links = [f"[{title.lower()}](#{title.lower().replace(' ', '-')})" for title in titles]
    rows = new_rows(kind)
    parts = [table(rows)] if rows else []
    return (
        [*parts, f"It {'also ' if rows else ''}has the {' and the '.join(links)}."]
        if links
        else parts
    )


def new_rows(kind: type[AbstractMethod]) -> list[str]:
    """Rows that its nearest family does not have: new options, other defaults or meanings."""
    nearest = [family for family in kind.__mro__[1:] if family in FAMILIES][:1]
    known = {row for family in nearest for row in all_rows(family)}
    return [row for row in all_rows(kind) if row not in known]


def all_rows(kind: type[AbstractMethod]) -> list[str]:
    """A row for each option."""
    meaning = meanings(kind)
    return [
        f"| `--{field.name.replace('_', '-')}` | {value(field.default)} | {meaning[field.name]} |"
        for field in dataclasses.fields(kind)
    ]


def table(rows: list[str]) -> str:
    """A table of options."""
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows])


def presets(kind: type[AbstractMethod]) -> str:
    """What each preset changes from the defaults."""
    rows = [
        f"| `{name}` | {', '.join(f'`{key}` {value(new)}' for key, new in changes.items())} |"
        for name, changes in kind.presets.items()
    ]
    return "\n".join(["| `--preset` | changes |", "|---|---|", *rows])


def value(default: object) -> str:
    """A default as text."""
    if isinstance(default, float):
        return f"{default:.4g}"
    return "none" if default in (None, ()) else str(default)


def meanings(kind: type[AbstractMethod]) -> dict[str, str]:
    """The docstring under each field, by name, from the source: objects do not keep it."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        found |= own_meanings(base)
    return found


def own_meanings(kind: type) -> dict[str, str]:
    """The same for the fields that the class itself declares."""
    if not kind.__module__.startswith("collegium"):
        return {}
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            docstring = ast.literal_eval(text.value)
            found[ast.unparse(field.target)] = inspect.cleandoc(docstring).replace("|", "\\|")
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
