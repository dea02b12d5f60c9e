"""The names users import; adding or removing one is done on purpose."""

import subprocess
import sys

import collegium


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
