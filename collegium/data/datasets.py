"""Data by a short text, like "digits", "cifar10:DIR" or "folder:DIR"."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from collegium.data.cifar import CIFAR10, CIFAR100, CifarFormat, load_cifar
from collegium.data.draws import Stream
from collegium.data.folder import load_folder
from collegium.data.hub import load_hub
from collegium.data.image_data import ImageData
from collegium.data.splits import Splits, check_fraction, hold_out
from collegium.errors import DataError, UnknownNameError

_HUB_NAMES = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
_DIGITS_TEST_FRACTION = 0.35


def load_data(
    spec: str, *, validation: float = 0.1, seed: int = 0, image_size: int | None = None
) -> Splits:
    """Loads the data that a text names.

    Args:
        spec: `digits`; `cifar10:DIR` or `cifar100:DIR` with the official binary folder or the one
            it is in, without `:DIR` downloaded by the `datasets` library; `folder:DIR` with
            train/CLASS/*.png; `hf:NAME_OR_PATH`, images with class labels from the hub.
        validation: fraction of train to hold out, 0 <= f < 1, stratified by class; 0 for none.
            Without effect where the data bring a validation split of their own.
        seed: what the held-out examples are drawn from; nothing else depends on it.
        image_size: rows and columns for `folder:` and `hf:`; None leaves it to the data.

    Returns:
        Train, validation and test; the test split is the same for every fraction and seed.

    Raises:
        UnknownNameError: no data are called that.
        DataError: the data are missing, damaged, or not what they should be.
    """
    check_fraction(validation)
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size is {image_size}; give rows and columns in pixels")
    try:
        splits = _load(spec, image_size)
    except OSError as error:
        raise DataError(f"{spec} cannot be read: {error}") from error
    if splits.validation is not None:
        return splits
    train, held_out = hold_out(splits.train, validation, seed)
    return replace(splits, train=train, validation=held_out)


def _load(spec: str, image_size: int | None) -> Splits:
    name, _, place = spec.partition(":")
    if name in _LOADERS:
        return _LOADERS[name](place, image_size)
    if Path(spec).is_dir():
        raise DataError(f"{spec} is a folder; say what is in it: folder:{spec} or cifar10:{spec}")
    raise UnknownNameError("data", name, _LOADERS)


def _load_digits(place: str, image_size: int | None) -> Splits:
    """The 1,797 handwritten digits, 8x8 and grey, that scikit-learn brings along."""
    if place:
        raise DataError(f"digits are embedded and take no folder; say digits, not digits:{place}")
    _refuse_size("digits", image_size, 8)
    from sklearn.datasets import load_digits  # takes a second: only when asked for

    bunch = load_digits()
    images_NDHW = (torch.from_numpy(bunch.images)[:, None] * (255 / 16)).round().to(torch.uint8)
    labels_N = torch.from_numpy(bunch.target).long()
    classes = tuple(str(name) for name in bunch.target_names)
    index_N = torch.arange(len(labels_N))
    everything = ImageData(images_NDHW, labels_N, index_N, classes, "digits", "none")
    train, test = hold_out(everything, _DIGITS_TEST_FRACTION, 0, Stream.DIGITS_TEST)
    assert test is not None
    return Splits(replace(train, origin=None), None, replace(test, origin=None))


def _load_cifar(layout: CifarFormat, place: str, image_size: int | None) -> Splits:
    _refuse_size(layout.name, image_size, 32)
    if place:
        return load_cifar(layout, Path(place).expanduser())
    instead = f"; or give the official binary folder, {layout.name}:DIR"
    return load_hub(_HUB_NAMES[layout.name], name=layout.name, alternative=instead)


def _load_folder(place: str, image_size: int | None) -> Splits:
    if not place:
        raise DataError("folder needs a place: folder:DIR, with DIR/train/CLASS/*.png")
    return load_folder(Path(place).expanduser(), image_size)


def _load_hf(place: str, image_size: int | None) -> Splits:
    if not place:
        raise DataError("hf needs a name: hf:NAME_OR_PATH, like hf:uoft-cs/cifar10")
    return load_hub(place, name=place.rpartition("/")[2], image_size=image_size)


def _refuse_size(name: str, image_size: int | None, side: int) -> None:
    if image_size not in (None, side):
        raise DataError(
            f"{name} images are {side}x{side}; image_size={image_size} is for folder: and hf: only"
        )


_LOADERS: dict[str, Callable[[str, int | None], Splits]] = {
    "digits": _load_digits,
    "cifar10": lambda place, image_size: _load_cifar(CIFAR10, place, image_size),
    "cifar100": lambda place, image_size: _load_cifar(CIFAR100, place, image_size),
    "folder": _load_folder,
    "hf": _load_hf,
}
