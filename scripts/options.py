"""Write the table of options in docs/run-folder.md from their dataclasses; --check only compares.

Run it by `scripts/docs`.
"""

import sys
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from collegium.cli.commands import VERBS
from collegium.cli.parser import slots_of
from collegium.config.option import Field
from collegium.config.run import every_option

PAGE = Path(__file__).resolve().parent.parent / "docs" / "run-folder.md"
START, END = "<!-- options, made by scripts/docs -->\n", "<!-- end of the options -->\n"
_COMMANDS = ("train", "distill", "resume", "compare", "evaluate", "audit", "store build")


def table() -> str:
    """One row for each option of a run."""
    head = (
        "| key | on the command line | default | decides | commands | meaning |\n"
        + "|---" * 6
        + "|"
    )
    rows = [_row(group, item) for group, item in every_option()]
    return "\n".join([head, *rows]) + "\n"


def _row(group: str, item: Field) -> str:
    key = f"{group}.{item.name}" if group else item.name
    name = (item.option.name or item.name).replace("_", "-")
    decides = "yes" if item.option.decides else "by hash" if item.option.hashed else "no"
    commands = ", ".join(verb for verb in _COMMANDS if name in options_of(verb))
    text = item.help.replace("|", "\\|")
    typed = f"--no-{name}" if item.default is True else f"--{name}"
    return f"| `{key}` | `{typed}` | {_default(item.default)} | {decides} | {commands} | {text} |"


def options_of(verb: str) -> set[str]:
    """Names of the options that a command takes."""
    return {name for slot in slots_of(VERBS[verb]) for name in slot.names}


def _default(value: Any) -> str:
    if value is MISSING:
        return "required"
    return "-" if value is None or value in ((), {}) else f"`{value}`"


def main() -> int:
    """Write the table, or compare it; gives the exit code."""
    before, _, rest = PAGE.read_text().partition(START)
    _, _, after = rest.partition(END)
    page = before + START + table() + END + after
    if "--check" in sys.argv:
        if page != PAGE.read_text():
            print("docs/run-folder.md is not current: run scripts/docs", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
