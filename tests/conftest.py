"""Shapes are checked while the tests run: every annotation of the package, at every call."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# The hook breaks torch.compile and costs time, so it is on in tests only.
_HOOK = install_import_hook("collegium", "beartype.beartype")

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
