"""A small data set, teachers for it, and stores of what they say."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from collegium.build import input_spec_of
from collegium.data import ImageData, Views
from collegium.models.registry import build_network
from collegium.store import Store, StoredTeachers, StoreWriter
from collegium.store.identity import identity_of_views, open_volumes
from collegium.teachers import LiveTeachers
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.types import Layers

MODELS = {"a": "small:cnn", "b": "small:mlp"}


def _noise(count: int = 90, seed: int = 0, shape: tuple[int, int, int] = (1, 8, 8)) -> ImageData:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    names = tuple(map(str, range(10)))
    index = torch.arange(count) + 4090  # over the border of a shard
    return ImageData(images, torch.arange(count) % 10, index, names, "noise", "crop")


def _ensemble(data: ImageData, seed: int = 0, models: dict[str, str] = MODELS) -> TeacherEnsemble:
    input_spec = input_spec_of(data)
    builders = {n: functools.partial(build_network, m, input_spec, seed) for n, m in models.items()}
    return TeacherEnsemble(builders, models, data.images_NDHW[:64].float() / 255)


@pytest.fixture(scope="session")
def shared() -> TeacherEnsemble:
    """The teachers of `data`; a test that changes one makes its own."""
    return _ensemble(_noise())


@pytest.fixture
def noise() -> Callable[..., ImageData]:
    return _noise


@pytest.fixture
def make_ensemble() -> Callable[..., TeacherEnsemble]:
    return _ensemble


@pytest.fixture
def data() -> ImageData:
    return _noise()


@pytest.fixture
def live(shared: TeacherEnsemble) -> LiveTeachers:
    teachers = {"a": shared.teacher("a", ("layer2",)), "b": shared.teacher("b")}
    return LiveTeachers(teachers)


@pytest.fixture
def stored(
    tmp_path: Path, data: ImageData, shared: TeacherEnsemble
) -> Callable[..., StoredTeachers]:
    """Makes a source of outputs over a store in a folder."""

    given = data

    def make(
        logits: str = "fp32",
        maps: str | None = None,
        *,
        data: ImageData = data,
        ensemble: TeacherEnsemble | None = None,
        recipe: str = "crop",
        seed: int = 0,
        precision: str = "32",
        warn: Callable[[str], None] = pytest.fail,
        folder: str = "store",
        **options: Any,
    ) -> StoredTeachers:
        ensemble = ensemble or (shared if data is given else _ensemble(data))
        views = Views(data, recipe, seed)
        layers = Layers()
        codecs: dict[str, Any] = {name: {"logits": logits} for name in ensemble.names}
        if maps is not None:
            layers = Layers((), {"a": ("layer2",)})
            codecs["a"]["layer2"] = maps
        store = Store(tmp_path / folder, identity_of_views(views, "noise"), warn)
        volumes, begin = open_volumes(store, ensemble, codecs, precision)
        writer = StoreWriter(ensemble, views, begin=begin, **options)
        return StoredTeachers(ensemble.names, volumes, {}, writer, layers)

    return make
