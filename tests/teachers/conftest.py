"""A small data set, teachers for it, and stores of what they say."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from collegium.build import setting_of
from collegium.data import ImageData, Views
from collegium.models.registry import build_network
from collegium.store import Filler, StoredTeachers
from collegium.store.identity import open_store, open_volumes, writes_down
from collegium.teachers import LiveTeachers
from collegium.teachers.ensemble import Faculty
from collegium.types import Layers

MODELS = {"a": "small:cnn", "b": "small:mlp"}


def _noise(count: int = 90, seed: int = 0, shape: tuple[int, int, int] = (1, 8, 8)) -> ImageData:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    names = tuple(map(str, range(10)))
    index = torch.arange(count) + 4090  # over the border of a shard
    return ImageData(images, torch.arange(count) % 10, index, names, "noise", "crop")


def _faculty(data: ImageData, seed: int = 0, models: dict[str, str] = MODELS) -> Faculty:
    setting = setting_of(data)
    builders = {n: functools.partial(build_network, m, setting, seed) for n, m in models.items()}
    return Faculty(builders, models, data.images_NDHW[:64].float() / 255)


@pytest.fixture
def noise() -> Callable[..., ImageData]:
    return _noise


@pytest.fixture
def make_faculty() -> Callable[..., Faculty]:
    return _faculty


@pytest.fixture
def data() -> ImageData:
    return _noise()


@pytest.fixture
def live(data: ImageData) -> LiveTeachers:
    faculty = _faculty(data)
    said = {"a": faculty.teacher("a", ("layer2",)), "b": faculty.teacher("b")}
    return LiveTeachers(said)


@pytest.fixture
def stored(tmp_path: Path, data: ImageData) -> Callable[..., StoredTeachers]:
    """A source over a store in a folder."""

    def make(
        logits: str = "fp32",
        maps: str | None = None,
        *,
        data: ImageData = data,
        faculty: Faculty | None = None,
        recipe: str = "crop",
        seed: int = 0,
        precision: str = "32",
        warn: Callable[[str], None] = pytest.fail,
        folder: str = "store",
        **options: Any,
    ) -> StoredTeachers:
        faculty = faculty or _faculty(data)
        views = Views(data, recipe, seed)
        layers = Layers()
        codecs: dict[str, Any] = {name: {"logits": logits} for name in faculty.names}
        if maps is not None:
            layers = Layers((), {"a": ("layer2",)})
            codecs["a"]["layer2"] = maps
        store = open_store(tmp_path / folder, views, warn, "noise")
        volumes = open_volumes(store, faculty, codecs, precision)
        begin = writes_down(store, faculty, volumes, precision)
        filler = Filler(faculty, views, begin=begin, **options)
        return StoredTeachers(faculty.names, volumes, {}, filler, layers)

    return make
