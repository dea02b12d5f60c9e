"""`scripts/shape.py` finds long files, long functions and imports that go both ways."""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts/shape.py"


@pytest.fixture
def shape() -> Any:
    """The functions of the script."""
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def package(root: Path, **modules: str) -> Path:
    """Write a package; two underscores in a name stand for a folder."""
    for name, text in modules.items():
        path = root / "collegium" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "back",
    [
        "from collegium.data import one",
        "import collegium.data.one",
        "from .data.one import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from collegium.data import one",
        "def late():\n    from collegium.data.one import thing",
    ],
)
def test_two_modules_may_not_import_each_other(shape: Any, tmp_path: Path, back: str) -> None:
    package(tmp_path, data__one="from ..other import thing\n", other=back)
    (complaint,) = shape.two_way_imports(shape.sources(tmp_path))
    assert complaint == "collegium.data.one and collegium.other import each other"


def test_one_way_is_allowed(shape: Any, tmp_path: Path) -> None:
    package(
        tmp_path, data__one="import collegium.other\n", other="import collegium.third", third=""
    )
    assert shape.two_way_imports(shape.sources(tmp_path)) == []


def test_docstrings_comments_and_blank_lines_are_no_code(shape: Any, tmp_path: Path) -> None:
    text = '"""Doc.\n\nMore."""\n\n# Note\nx = (\n    1,\n)\n"""Of x."""\n\n\ndef f() -> str:\n'
    text += '    """Doc."""\n    return """a\nb"""\n'
    (source,) = shape.sources(package(tmp_path, one=text))
    assert len(source.code_lines) == 6
    assert [length for length, _ in source.function_lengths()] == [3]


def test_a_long_file_and_long_functions_are_refused(shape: Any, tmp_path: Path) -> None:
    most = shape.LONGEST_FILE
    package(tmp_path, fits="x = 1\n" * most, long="x = 1\n" * (most + 1))
    (complaint,) = shape.long_files(shape.sources(tmp_path))
    assert complaint.endswith(f"long.py has {most + 1} lines, at most {most}")
    assert shape.long_functions([shape.MEDIAN] * 9 + [99]) == []
    assert len(shape.long_functions([shape.MEDIAN + 1] * 10)) == 1
    assert len(shape.long_functions([shape.MEDIAN] * 8 + [shape.NINETIETH + 1] * 2)) == 1
