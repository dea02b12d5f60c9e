import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from collegium.data import ImageData
from collegium.data.readers.cifar import Cifar10Reader

PIXELS = 3072


def _records_in(layout: type[Cifar10Reader], name: str) -> int:
    return 10_000 if name == layout.test_file else 50_000 // len(layout.train_files)


def _write_cifar(
    layout: type[Cifar10Reader],
    folder: Path,
    records: Mapping[str, Mapping[int, bytes]] | None = None,
) -> Path:
    """An official folder of the official size whose pixels and labels are 0 but for `records`.

    The files are sparse: they take neither time nor disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = layout.label_bytes + PIXELS
    for name in (*layout.train_files, layout.test_file):
        with (folder / name).open("wb") as file:
            file.truncate(_records_in(layout, name) * size)
            for place, record in (records or {}).get(name, {}).items():
                file.seek(place * size)
                file.write(record)
    names = "".join(f"class_{label}\n" for label in range(layout.labels.classes))
    (folder / layout.labels.names_file).write_text(names + "\n")
    return folder


@pytest.fixture(scope="session")
def write_cifar() -> Callable[..., Path]:
    return _write_cifar


@pytest.fixture(scope="session")
def official_cifar() -> Path:
    """The folder that holds the real data."""
    place = os.environ.get("COLLEGIUM_DATA")
    if not place:
        pytest.skip("COLLEGIUM_DATA does not name the folder with the CIFAR binaries")
    return Path(place)


def _write_picture(
    path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", seed: int = 0
) -> Path:
    """A picture of noise; `size` is (width, height) as Pillow has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = (3,) if mode == "RGB" else ()
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *depth), np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture(scope="session")
def write_picture() -> Callable[..., Path]:
    return _write_picture


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Two classes of three 8x8 RGB pictures in train/, one each in val/."""
    root = tmp_path / "pets"
    for label, name in enumerate(("cat", "dog")):
        for place in range(3):
            seed = 10 * label + place
            _write_picture(root / "train" / name / f"{place}.png", seed=seed)
        _write_picture(root / "val" / name / "a.png", seed=100 + label)
    return root


def _noise_data(
    count: int, classes: int = 4, shape: tuple[int, int, int] = (3, 8, 8), augment: str = "none"
) -> ImageData:
    generator = torch.Generator().manual_seed(count)
    return ImageData(
        torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8),
        torch.arange(count) % classes,
        torch.arange(count),
        tuple(f"class {label}" for label in range(classes)),
        "noise",
        augment,
    )


@pytest.fixture(scope="session")
def noise_data() -> Callable[..., ImageData]:
    return _noise_data
