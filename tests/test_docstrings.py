"""The examples in the docstrings of the package are run.

Each module is imported by its test: collecting the tests imports none of them.
"""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "collegium").rglob("*.py"))
    if re.search(r"^ *>>> ", path.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_the_docstring_shows(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert outcome.attempted
    assert not outcome.failed, capsys.readouterr().out


def test_many_modules_have_examples() -> None:
    assert len(MODULES) > 60
