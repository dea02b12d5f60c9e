"""Shapes and types are checked while the tests run, at every call of the modules named here."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

TENSOR_MODULES = (
    "audit.calibration",
    "audit.headroom",
    "audit.statistics",
    "data.augment",
    "data.augment_large",
    "data.image_data",
    "data.targets",
    "distiller",
    "evaluation",
    "losses",
    "methods",
    "models.features.pooling",
    "objectives",
    "store.codecs",
    "teachers.label_map",
    "types",
    "weighting",
)
"""Modules whose functions take and return tensors, without those that are called for every layer,
block or index. COLLEGIUM_CHECK_TYPES=all checks the whole package, which takes twice as long;
.ci/run does so."""

# The hook breaks torch.compile and costs time, so it is on in tests only.
_CHECKED = [f"collegium.{name}" for name in TENSOR_MODULES]
if os.environ.get("COLLEGIUM_CHECK_TYPES") == "all":
    _CHECKED = ["collegium"]
_HOOK = install_import_hook(_CHECKED, "beartype.beartype")


def stand_in_for_operators() -> None:
    """Let a torchvision be imported whose compiled operators are for another build of torch.

    It looks for two of them when it is imported; classifiers never call them. timm and the image
    models of transformers import it too. For tests only: nothing that works is replaced.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor a, Tensor b, float c) -> Tensor"
            )
        importlib.import_module("torchvision")


if importlib.util.find_spec("torchvision") is not None:
    stand_in_for_operators()

CHECKOUT = Path(__file__).resolve().parent.parent


def _folder(variable: str, fallback: str) -> Path:
    folder = Path(os.environ.get(variable) or CHECKOUT.parent / "shared" / fallback)
    if not folder.is_dir():
        pytest.skip(f"{variable} does not name a folder")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden cases."""
    return _folder("COLLEGIUM_GOLDEN", "golden")


@pytest.fixture(scope="session")
def cifar_weights() -> Path:
    """Folder of the real CIFAR-10 teachers."""
    return _folder("COLLEGIUM_WEIGHTS", "data/weights")


@pytest.fixture(scope="session")
def cifar_data() -> Path:
    """Folder that holds the official binary folders of CIFAR-10 and CIFAR-100."""
    if "COLLEGIUM_DATA" not in os.environ:
        pytest.skip("COLLEGIUM_DATA does not name the folder of the CIFAR binaries")
    return Path(os.environ["COLLEGIUM_DATA"])
