"""From a data string to data: "digits", "cifar10:DIR", "folder:DIR?corrupt=skip"."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from collegium.data.data_string import READERS, DataSpec, check_kind, parse_spec
from collegium.data.images.decode import thread_count
from collegium.data.images.load import ImageOptions, silent
from collegium.data.images.modes import PixelRule
from collegium.data.images.pixel_scale import as_scale
from collegium.data.readers.base import AbstractReader
from collegium.data.splits import Splits, check_fraction
from collegium.errors import DataError, UnknownNameError
from collegium.utils.from_json import ImageSize, as_size, check_size

_VALUES = {
    "corrupt": ("fatal", "skip"),
    "val": ("validation", "test"),
    "labels": ("fine", "coarse"),
    "alpha": ("drop", "white", "black"),
}


def load_data(
    spec: str,
    *,
    validation: float = 0.1,
    seed: int = 0,
    image_size: ImageSize = None,
    workers: int | None = None,
    tell: Callable[[str], None] = silent,
) -> Splits:
    """Load the data that a data string names.

    Args:
        spec: one of

            - `digits`;
            - `cifar10:DIR`, `cifar100:DIR`: the official binary folder or the one it is in,
              without `:DIR` downloaded by the `datasets` library; `cifar100:DIR?labels=coarse`;
            - `mnist:DIR`, `fashion-mnist:DIR`: the four idx files, compressed or not;
            - `tiny-imagenet:DIR`: the official folder;
            - `folder:DIR`: train/CLASS/*.png and perhaps val/ and test/;
            - `hf:NAME_OR_PATH`: images with a class each, as the `datasets` library reads them;
              `config`, `train`, `validation`, `test`, `image`, `label` name parts of them;
            - a string of another package's reader (entry points `collegium.readers`).

            Image files take `corrupt=skip`, `size=ROWS,COLUMNS`, `range=BLACK,WHITE` for those
            deeper than eight bits and `alpha=white` or `black` for transparent ones; folders with
            val/ take `val=test`, which makes it the test split.
        validation: fraction of train to hold out, 0 <= f < 1, stratified by class; 0 for none.
            Without effect where the data bring a validation split of their own.
        seed: of the draw of held-out examples; nothing else depends on it.
        image_size: rows and columns of image files, one number for both; None for the data's own.
        workers: processes that decode many images; by default one per core, up to eight.
        tell: called with one line for each step that takes long.

    Returns:
        Train, validation and test; the test split is the same for every fraction and seed.

    Raises:
        UnknownNameError: no such data, or no such option.
        DataError: the data are missing, damaged, or not what they should be.
    """
    check_fraction(validation)
    check_size(image_size)
    count = thread_count() if workers is None else workers
    try:
        splits = _load(spec, ImageOptions(image_size, workers=count, notify=tell))
    except OSError as error:
        raise DataError(f"{spec} cannot be read: {error}") from error
    if len(splits.train.classes) == 1:
        name, (only,) = splits.train.name, splits.train.classes
        note = f"{name} has one class, {only}: nothing can be learned"
        splits = splits.with_notes(note)
    return splits.with_held_out(validation, seed)


def _load(text: str, image_options: ImageOptions) -> Splits:
    check_kind(text)
    spec = parse_spec(text)
    reader: AbstractReader = READERS.find(spec.kind)()
    _check_options(spec, reader)
    if reader.needs and not spec.place:
        raise DataError(f"{spec.kind} needs a place: {spec.kind}:{reader.needs}")
    _check_size(reader, image_options)
    splits = reader.read(spec, _with_string_options(text, spec.options, image_options))
    return _val_is_test(splits) if spec.options.get("val") == "test" else splits


def _with_string_options(
    text: str, options: Mapping[str, Any], image_options: ImageOptions
) -> ImageOptions:
    """The image options with those of the data string."""
    scale = as_scale(options["range"]) if "range" in options else None
    size = as_size(options["size"]) if "size" in options else image_options.image_size
    if image_options.image_size not in (None, size):
        given = image_options.image_size
        raise DataError(f"{text} says size={options['size']}, --image-size says {given}")
    return replace(
        image_options,
        rule=PixelRule(scale, options.get("alpha", "drop")),
        image_size=size,
        corrupt=options.get("corrupt", "fatal"),
    )


def _check_options(spec: DataSpec, reader: AbstractReader) -> None:
    for key, value in spec.options.items():
        if not reader.options:
            raise DataError(f"{spec.kind} takes no options, got {key}={value}")
        if key not in reader.options:
            raise UnknownNameError(f"option of {spec.kind}", key, reader.options)
        if key in _VALUES and value not in _VALUES[key]:
            raise UnknownNameError(f"value of {key}", value, _VALUES[key])


def _check_size(reader: AbstractReader, image_options: ImageOptions) -> None:
    side = reader.side
    if side is not None and image_options.image_size not in (None, side, (side, side)):
        raise DataError(
            f"{reader.slug} images are {side}x{side}; image_size={image_options.image_size} is for "
            "folder:, tiny-imagenet: and hf: only"
        )


def _val_is_test(splits: Splits) -> Splits:
    if splits.validation is None or splits.test is not None:
        there = ", ".join(splits.names())
        raise DataError(
            f"{splits.train.name}: val=test takes the validation split as the test split, where "
            f"there is no other; there are: {there}"
        )
    return replace(splits, validation=None, test=splits.validation)
