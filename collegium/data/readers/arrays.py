"""Data handed over from Python: arrays, tensors, or any map-style dataset."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from PIL.ImageFile import ImageFile
from torch import Tensor

from collegium.data.class_names import name_notes
from collegium.data.image_data import ImageData
from collegium.data.images.decode import (
    brought_to,
    common_shape,
    free_memory,
    header_of,
    orientation,
)
from collegium.data.images.inspect import Inspected, crop_notes, find_rule, refuse_blank
from collegium.data.images.modes import Alpha, PixelRule, eight_bits, pixel_facts
from collegium.data.images.pixel_scale import Scale
from collegium.data.readers.array_layout import (
    channels_first,
    in_colour,
    layout_note,
    numbers,
    stacked,
    to_pixels,
)
from collegium.data.readers.hub import Rows
from collegium.data.splits import Splits
from collegium.data.targets import Targets, class_names_of, in_classes, read_targets
from collegium.errors import DataError
from collegium.utils.from_json import ImageSize, check_size

_SIZE = "image_size=(ROWS, COLUMNS) of as_image_data"


@dataclass(frozen=True)
class ArrayOptions:
    """How arrays and data sets from Python are read; see `as_image_data`."""

    classes: Sequence[str] | None = None
    name: str = "arrays"
    augment: str = "none"
    image_size: ImageSize = None
    pixel_range: tuple[float, float] | tuple[int, int] | None = None
    alpha: Alpha = "drop"

    def __post_init__(self) -> None:
        check_size(self.image_size)

    @property
    def rule(self) -> PixelRule:
        """The scale and the treatment of transparency that the user chose."""
        if self.pixel_range is None:
            return PixelRule(alpha=self.alpha)
        black, white = self.pixel_range
        return PixelRule(Scale(float(black), float(white), given=True), self.alpha)


def as_image_data(
    source: Any,
    *,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    augment: str = "none",
    image_size: ImageSize = None,
    pixel_range: tuple[float, float] | tuple[int, int] | None = None,
    alpha: Alpha = "drop",
) -> ImageData:
    """Make an `ImageData` from objects in memory; the pixels are copied.

    Every guess is a warning. To read several splits of one data set, use `splits_of`: it finds one
    scale, one size and one list of classes for all.

    Args:
        source: an `ImageData`, returned as it is; or a pair (images, labels) of arrays or
            tensors, the images NHW, NHWD or NDHW; or anything with a length and items
            (image, label), the image a PIL image, or an array or tensor HW, HWD or DHW; or a
            `datasets.Dataset`. Pixels are uint8, bool, integers of up to 16 bits, or
            floats in 0..1, -1..1 or 0..255, by the smallest and the largest of all. If both
            an NDHW and an NHWD reading fit, channels are first. Grey and RGB may be mixed and
            become RGB; PIL images may have any mode, and sizes that differ: the largest centred
            part of the shape of each is scaled. Labels are integers from 0, or names.
        classes: the class names; else those of `source.classes`, else the sorted names that labels
            are, else "0", "1" and so on.
        name: of the data, in messages and records.
        augment: the view recipe that suits training on them.
        image_size: rows and columns of PIL images after scaling, one number for both; by default
            the size of nine in ten, else the median shorter side, at least 32, at most 224.
        pixel_range: the numbers that are black and white; None finds them.
        alpha: what transparency of PIL images becomes: dropped, or white or black under it.

    Raises:
        DataError: arrays of mixed sizes, more than memory holds, lengths that differ, labels that
            are no class, pixels that no scale suits or that are all the same.
        UnknownNameError: `augment` is no view recipe, or a label no class.
    """
    if isinstance(source, ImageData):
        return source
    options = ArrayOptions(classes, name, augment, image_size, pixel_range, alpha)
    found = _read_splits({"train": source}, options)
    for note in found.notes:
        warnings.warn(note, stacklevel=2)
    return found.train


def splits_of(parts: Mapping[str, Any], **options: Any) -> Splits:
    """Splits of objects in memory, read together.

    A split with class names of its own is matched to train by these.

    Args:
        parts: "train" and perhaps "validation" and "test"; each as `source` of `as_image_data`.
        options: the other arguments of `as_image_data`.

    Raises:
        DataError: see `as_image_data`; or splits of different ranges.
        UnknownNameError: an example of a class that train does not have.
    """
    return _read_splits(parts, ArrayOptions(**options))


def _read_splits(parts: Mapping[str, Any], options: ArrayOptions) -> Splits:
    name = options.name
    if "train" not in parts:
        raise DataError(f"{name}: train is None: give the training data")
    where = {part: name if part == "train" else f"{name}, {part}" for part in parts}
    raw = {part: _read(source, where[part]) for part, source in parts.items()}
    train = raw["train"]
    arrays, rule, notes = _as_arrays(raw, options)
    pixels, scale, scale_notes = to_pixels(arrays, options.rule.scale, name)
    if rule.scale is None and any(array.dtype.kind in "iu" for array in arrays.values()):
        rule = replace(rule, scale=scale)  # for files of images with such numbers
    names = _class_names(train, options.classes, where["train"])
    found = {}
    for part, one in raw.items():
        # Names that the user gives are those of the numbers of train.
        own = one.names if part != "train" or options.classes is None or one.ready else ()
        label_N = in_classes(one.targets, own, names, bool(train.targets.names), where[part])
        labels_N, ready = torch.from_numpy(label_N), one.ready
        if ready is None:
            found[part] = ImageData.numbered(pixels[part], labels_N, names, name, options.augment)
        else:
            labels_N = labels_N.to(ready.labels_N.device)
            found[part] = replace(ready, labels_N=labels_N, classes=names)
    notes += [*scale_notes, *name_notes(name, train.names, names)]
    notes += refuse_blank(pixels, name) if train.ready is None else []
    return Splits.of(found, notes, rule)


@dataclass(frozen=True)
class _Raw:
    """A split as the user gave it.

    Attributes:
        images: NDHW; or an image or an array of each example.
        targets: of each example.
        names: class names of its own.
        unclear: another order of axes fits too.
        ready: the split, if it is an `ImageData` already.
    """

    images: NDArray[Any] | list[Any]
    targets: Targets
    names: tuple[str, ...] = ()
    unclear: bool = False
    ready: ImageData | None = None


def _read(source: Any, where: str) -> _Raw:
    if isinstance(source, ImageData):
        targets = Targets(source.labels_N.cpu().numpy())
        return _Raw([], targets, source.classes, ready=source)
    is_two = isinstance(source, tuple | list) and len(source) == 2
    if is_two and isinstance(source[0], np.ndarray | Tensor):
        images, unclear = channels_first(numbers(source[0], where))
        if not len(images):
            raise DataError(f"{where}: no pixels in images of the shape {images.shape}")
        return _Raw(images, read_targets(source[1], where), unclear=unclear)
    table = isinstance(getattr(source, "features", None), Mapping)  # of the datasets library
    if table and hasattr(source, "__len__"):
        source = Rows.of(source, where)
    lists = is_two and isinstance(source, tuple) and isinstance(source[0], list)
    if lists and isinstance(source[1], list | np.ndarray | Tensor):
        images, labels = source
        if len(images) != len(labels):
            raise DataError(f"{where}: {len(images)} images, but {len(labels)} labels")
        source = list(zip(images, labels, strict=True))
    items, labels = _collect(source, where)
    return _Raw(items, read_targets(labels, where), _own_names(source))


def _own_names(source: Any) -> tuple[str, ...]:
    """The `classes` of a data set, or of the data sets that it wraps."""
    names = getattr(source, "classes", None)
    if isinstance(names, list | tuple) and all(isinstance(entry, str) for entry in names):
        return tuple(names)
    inner = [getattr(source, "dataset", None), *(getattr(source, "datasets", None) or ())]
    found = {_own_names(part) for part in inner if part is not None}
    return found.pop() if len(found) == 1 else ()


def _collect(source: Any, name: str) -> tuple[list[Any], list[Any]]:
    """All items of a map-style dataset: images or arrays, and their labels."""
    if isinstance(source, Mapping):
        keys = ", ".join(map(str, source))
        raise DataError(f"{name}: a mapping of {keys}: give one split of it, or (images, labels)")
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise DataError(
            f"{name}: cannot read {type(source).__name__}; give a pair (images, labels) of arrays, "
            "or a dataset with len() whose items are (image, label)"
        )
    if not len(source):
        raise DataError(f"{name}: the dataset has no items")
    first = _item(source[0], 0, name)
    free, need = free_memory(), np.asarray(first[0]).nbytes * len(source)
    if free is not None and need > free:
        raise DataError(
            f"{name}: {len(source):,} items like the first take {need / 1e9:.0f} GB, "
            f"{free / 1e9:.0f} GB are free; as files, folder:DIR reads them batch by batch"
        )
    items = [first, *(_item(source[place], place, name) for place in range(1, len(source)))]
    return [image for image, _ in items], [label for _, label in items]


def _item(item: Any, place: int, name: str) -> tuple[Any, Any]:
    if not (isinstance(item, tuple | list) and len(item) == 2):
        raise DataError(f"{name}: item {place} is {type(item).__name__}, expected (image, label)")
    image, label = item
    if isinstance(image, Image):
        image.load()
        return image, label
    return numbers(image, f"{name}, item {place}"), label


def _size_of_train(train: _Raw) -> ImageSize:
    """Rows and columns of train, unless it is a list of images."""
    if train.ready is not None:
        return train.ready.shape[1:]
    images = train.images
    if isinstance(images, list):
        if any(isinstance(image, Image) for image in images) or not images:
            return None
        images = channels_first(images[0][None])[0]
    return tuple(images.shape[2:]) if images.ndim == 4 else None


def _as_arrays(
    raw: Mapping[str, _Raw], options: ArrayOptions
) -> tuple[dict[str, NDArray[Any]], PixelRule, list[str]]:
    """Images NDHW of every split that is not ready, and how PIL images among them were read."""
    name = options.name
    inspected = {part: _inspect(one, f"{name} {part}") for part, one in raw.items()}
    headers = {part: found.headers for part, found in inspected.items() if found.headers}
    rule, notes = find_rule(inspected, name, options.rule, python=True)
    shape = None
    if headers:
        headers = {"train": next(iter(headers.values())), **headers}
        shape = common_shape(headers, options.image_size or _size_of_train(raw["train"]))
        if options.image_size is None:
            notes += crop_notes(inspected, shape, name, _SIZE)
    arrays = {}
    for part, one in raw.items():
        if one.ready is None:
            arrays[part], unclear = _one_array(one, shape, rule, name)
            notes += [layout_note(arrays[part].shape, name)] if unclear else []
    return in_colour(arrays), rule, notes


def _inspect(one: _Raw, name: str) -> Inspected:
    listed = one.images if isinstance(one.images, list) else []
    images = [image for image in listed if isinstance(image, Image)]
    headers = [
        # The lower bytes of 16-bit colours are lost by now.
        replace(header_of(image, _turn(image)), deep=image.mode[:1] in "IF")
        for image in images
    ]
    facts = [
        pixel_facts(image, name, None, header.deep)
        for image, header in zip(images, headers, strict=True)
        if header.deep or header.has_alpha
    ]
    return Inspected(headers, facts, lambda at: f"{name}[{at}]")


def _turn(image: Image) -> int:
    """Orientation in Exif; an image that was changed since it was opened is upright."""
    return orientation(image) if isinstance(image, ImageFile) else 1


def _one_array(
    one: _Raw, shape: Sequence[int] | None, rule: PixelRule, name: str
) -> tuple[NDArray[Any], bool]:
    if not isinstance(one.images, list):
        return one.images, one.unclear

    def pixels(image: Any) -> NDArray[Any]:
        if not isinstance(image, Image):
            return np.asarray(image)
        assert shape is not None
        plain = eight_bits(image, rule=rule, name=name)
        return np.asarray(brought_to(plain, shape[1:], _turn(image)))

    found, unclear = stacked([pixels(image) for image in one.images], name)
    # The axes of a PIL image are known.
    return found, unclear and not any(isinstance(image, Image) for image in one.images)


def _class_names(train: _Raw, classes: Sequence[str] | None, where: str) -> tuple[str, ...]:
    if train.ready is not None:
        return train.ready.classes
    if classes is None:
        return class_names_of(train.targets, train.names, where)
    if isinstance(classes, list | tuple) and all(isinstance(entry, str) for entry in classes):
        return tuple(classes)
    raise DataError(f"{where}: classes is {classes!r}, expected a list of names")
