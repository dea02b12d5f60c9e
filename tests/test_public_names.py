"""The public names: which they are, and that type checkers see the same."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import collegium
from collegium.methods import all_methods
from tests.cli_and_docs.pages import ROOT


def test_the_public_names_are_these() -> None:
    assert sorted(collegium.__all__) == [
        "AEKD",
        "AMTML",
        "AT",
        "AvgMKD",
        "CAMKD",
        "CollegiumError",
        "DIST",
        "DKD",
        "Dims",
        "Distiller",
        "DistillerOutputs",
        "EBKD",
        "FSP",
        "FitNets",
        "Fixed",
        "Gated",
        "Head",
        "KD",
        "LiveTeachers",
        "Logits",
        "RKD",
        "Random",
        "Record",
        "Run",
        "SP",
        "StudentOutputs",
        "TeacherOutputs",
        "Vanilla",
        "distill",
        "evaluate",
        "execute",
        "export_student",
        "predict",
        "resume",
        "total",
    ]
    assert all(getattr(collegium, name) is not None for name in collegium.__all__)


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, collegium; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_method_is_a_public_name_by_being_there() -> None:
    ours = [kind for kind in all_methods().values() if kind.__module__.startswith("collegium.")]
    assert len(ours) >= 18
    assert all(getattr(collegium, kind.__name__) is kind for kind in ours)
    assert {kind.__name__ for kind in ours} <= set(dir(collegium))


def test_type_checkers_see_the_same_names() -> None:
    check = [sys.executable, str(ROOT / "scripts/stub.py"), "--check"]
    assert subprocess.run(check, cwd=ROOT).returncode == 0
    stub = (ROOT / "collegium/__init__.pyi").read_text()
    assert all(f" import {name} as {name}\n" in stub for name in collegium.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(collegium, "Amtml")


@pytest.mark.parametrize(
    "path", [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "scripts").rglob("*.py")], ids=str
)
def test_scripts_import_names_that_exist(path: Path) -> None:
    """Scripts are run by hand, and the type checker does not read them."""
    imports = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
    ]
    for node in imports:
        module = str(node.module)
        if module.partition(".")[0] in ("collegium", "torch"):
            for name in node.names:
                found = importlib.import_module(module)
                assert hasattr(found, name.name) or importlib.util.find_spec(
                    f"{module}.{name.name}"
                ), f"{module}.{name.name}"
