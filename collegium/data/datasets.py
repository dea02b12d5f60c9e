"""Data by a short text, like "digits", "cifar10:DIR" or "folder:DIR?corrupt=skip"."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from collegium.data.data_string import DataSpec, parse_spec
from collegium.data.image_data import ImageData
from collegium.data.images.decode import thread_count
from collegium.data.images.options import ImageOptions, silent
from collegium.data.images.pixel_scale import as_scale
from collegium.data.readers.cifar import CIFAR10, CIFAR100, CIFAR100_COARSE, CifarFormat, load_cifar
from collegium.data.readers.folder import load_folder
from collegium.data.readers.hub import CHOICES, Choices, load_hub
from collegium.data.readers.idx import IDX_FORMATS, load_idx
from collegium.data.readers.tiny_imagenet import load_tiny_imagenet
from collegium.data.rng import Stream
from collegium.data.splits import Splits, check_fraction, hold_out
from collegium.errors import DataError, UnknownNameError
from collegium.utils.from_json import ImageSize, as_size, check_size

_HUB_NAMES = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
_DIGITS_TEST_FRACTION = 0.35
_VALUES = {
    "corrupt": ("fatal", "skip"),
    "val": ("validation", "test"),
    "labels": ("fine", "coarse"),
    "alpha": ("drop", "white", "black"),
}
_OF_PICTURES = ("corrupt", "size", "range", "alpha")
_OF_FOLDERS = (*_OF_PICTURES, "val")


@dataclass(frozen=True)
class _Kind:
    """One kind of data.

    Attributes:
        load: reads it.
        needs: what has to come after the colon; empty if nothing has to.
        options: what may come after a question mark.
    """

    load: Callable[[DataSpec, ImageOptions], Splits]
    needs: str = ""
    options: tuple[str, ...] = ()


def load_data(
    spec: str,
    *,
    validation: float = 0.1,
    seed: int = 0,
    image_size: ImageSize = None,
    workers: int | None = None,
    tell: Callable[[str], None] = silent,
) -> Splits:
    """Loads the data that a text names.

    Args:
        spec: one of

            - `digits`;
            - `cifar10:DIR`, `cifar100:DIR`: the official binary folder or the one it is in,
              without `:DIR` downloaded by the `datasets` library; `cifar100:DIR?labels=coarse`;
            - `mnist:DIR`, `fashion-mnist:DIR`: the four idx files, compressed or not;
            - `tiny-imagenet:DIR`: the official folder;
            - `folder:DIR`: train/CLASS/*.png and perhaps val/ and test/;
            - `hf:NAME_OR_PATH`: images with a class each, as the `datasets` library reads them;
              `config`, `train`, `validation`, `test`, `image`, `label` name parts of them.

            Stored pictures take `corrupt=skip`, `size=ROWS,COLUMNS`, `range=BLACK,WHITE` for those
            deeper than eight bits and `alpha=white` or `black` for transparent ones; folders with
            val/ take `val=test`, which makes it the test split.
        validation: fraction of train to hold out, 0 <= f < 1, stratified by class; 0 for none.
            Without effect where the data bring a validation split of their own.
        seed: what the held-out examples are drawn from; nothing else depends on it.
        image_size: rows and columns of stored pictures, one number for both; None leaves it to the
            data.
        workers: processes that decode many pictures; by default one a core, up to eight.
        tell: told, a line each, what takes long.

    Returns:
        Train, validation and test; the test split is the same for every fraction and seed.

    Raises:
        UnknownNameError: no data, or no option of them, are called that.
        DataError: the data are missing, damaged, or not what they should be.
    """
    check_fraction(validation)
    check_size(image_size)
    count = thread_count() if workers is None else workers
    try:
        splits = _load(spec, ImageOptions(image_size, workers=count, tell=tell))
    except OSError as error:
        raise DataError(f"{spec} cannot be read: {error}") from error
    if len(splits.train.classes) == 1:
        lone = (
            f"{splits.train.name} has one class, {splits.train.classes[0]}: nothing can be learned"
        )
        splits = replace(splits, notes=(*splits.notes, lone))
    if splits.validation is not None:
        return splits
    train, held_out = hold_out(splits.train, validation, seed)
    return replace(splits, train=train, validation=held_out)


def _load(text: str, image_options: ImageOptions) -> Splits:
    spec = parse_spec(text)
    if spec.kind not in _KINDS:
        if Path(text).is_dir():
            raise DataError(
                f"{text} is a folder; say what is in it: folder:{text} or cifar10:{text}"
            )
        raise UnknownNameError("data", spec.kind, _KINDS)
    kind = _KINDS[spec.kind]
    _check_options(spec, kind)
    if kind.needs and not spec.place:
        raise DataError(f"{spec.kind} needs a place: {spec.kind}:{kind.needs}")
    splits = kind.load(spec, _as_asked(text, spec.options, image_options))
    return _val_is_test(splits) if spec.options.get("val") == "test" else splits


def _as_asked(text: str, options: Mapping[str, str], image_options: ImageOptions) -> ImageOptions:
    """How pictures are read, with what the data string says of it."""
    asked: dict[str, Any] = {key: options[key] for key in ("corrupt", "alpha") if key in options}
    if "range" in options:
        asked["scale"] = as_scale(options["range"])
    if "size" in options:
        asked["image_size"] = as_size(options["size"])
        if image_options.image_size not in (None, asked["image_size"]):
            said = image_options.image_size
            raise DataError(f"{text} says size={options['size']}, --image-size says {said}")
    return replace(image_options, **asked)


def _check_options(spec: DataSpec, kind: _Kind) -> None:
    for key, value in spec.options.items():
        if not kind.options:
            raise DataError(f"{spec.kind} takes no options, got {key}={value}")
        if key not in kind.options:
            raise UnknownNameError(f"option of {spec.kind}", key, kind.options)
        if key in _VALUES and value not in _VALUES[key]:
            raise UnknownNameError(f"value of {key}", value, _VALUES[key])


def _val_is_test(splits: Splits) -> Splits:
    if splits.validation is None or splits.test is not None:
        there = ", ".join(splits.names())
        raise DataError(
            f"{splits.train.name}: val=test takes the validation split as the test split, where "
            f"there is no other; there are: {there}"
        )
    return replace(splits, validation=None, test=splits.validation)


def _load_digits(spec: DataSpec, image_options: ImageOptions) -> Splits:
    """The 1,797 handwritten digits, 8x8 and grey, that scikit-learn brings along."""
    if spec.place:
        raise DataError(
            f"digits are embedded and take no folder; say digits, not digits:{spec.place}"
        )
    _refuse_size("digits", image_options, 8)
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


def _load_cifar(spec: DataSpec, image_options: ImageOptions) -> Splits:
    _refuse_size(spec.kind, image_options, 32)
    coarse = spec.options.get("labels") == "coarse"
    layout: CifarFormat = {"cifar10": CIFAR10, "cifar100": CIFAR100}[spec.kind]
    if spec.place:
        return load_cifar(CIFAR100_COARSE if coarse else layout, spec.path)
    return load_hub(
        _HUB_NAMES[spec.kind],
        name=spec.kind,
        image_options=image_options,
        choices=Choices(label="coarse_label" if coarse else ""),
        alternative=f"; or give the official binary folder, {spec.kind}:DIR",
    )


def _load_idx(spec: DataSpec, image_options: ImageOptions) -> Splits:
    _refuse_size(spec.kind, image_options, 28)
    return load_idx(IDX_FORMATS[spec.kind], spec.path)


def _load_hf(spec: DataSpec, image_options: ImageOptions) -> Splits:
    choices = Choices(**{key: value for key, value in spec.options.items() if key in CHOICES})
    name = spec.path.stem if spec.path.suffix == ".parquet" else spec.path.name
    return load_hub(spec.place, name=name, image_options=image_options, choices=choices)


def _refuse_size(name: str, image_options: ImageOptions, side: int) -> None:
    if image_options.image_size not in (None, side, (side, side)):
        raise DataError(
            f"{name} images are {side}x{side}; image_size={image_options.image_size} is for "
            "folder:, tiny-imagenet: and hf: only"
        )


_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "digits": _Kind(_load_digits),
        "cifar10": _Kind(_load_cifar),
        "cifar100": _Kind(_load_cifar, options=("labels",)),
        "mnist": _Kind(_load_idx, "DIR, the folder with train-images-idx3-ubyte"),
        "fashion-mnist": _Kind(_load_idx, "DIR, the folder with train-images-idx3-ubyte"),
        "tiny-imagenet": _Kind(
            lambda spec, image_options: load_tiny_imagenet(spec.path, image_options),
            "DIR, the official folder tiny-imagenet-200",
            _OF_FOLDERS,
        ),
        "folder": _Kind(
            lambda spec, image_options: load_folder(spec.path, image_options),
            "DIR, with DIR/train/CLASS/*.png",
            _OF_FOLDERS,
        ),
        "hf": _Kind(_load_hf, "NAME_OR_PATH, like hf:uoft-cs/cifar10", (*_OF_PICTURES, *CHOICES)),
    }
)
