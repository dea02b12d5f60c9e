"""Data handed over from Python: arrays, tensors, or any map-style dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from collegium.data.image_data import ImageData
from collegium.data.pictures import Header, common_shape, eight_bits, fit, free_memory
from collegium.errors import DataError

_MOST_CLASSES_GUESSED = 100_000


def as_image_data(
    source: Any,
    *,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    augment: str = "none",
    image_size: int | None = None,
) -> ImageData:
    """Makes an `ImageData` of what a program has in hand; the pixels are copied.

    Args:
        source: an `ImageData`, returned as it is; or a pair (images, labels) of arrays or
            tensors, the images NHW, NHWD or NDHW; or anything with a length and items
            (image, label), the image a PIL image, or an array or tensor HW, HWD or DHW. Pixels
            are uint8, or float in 0..1. Where both an NDHW and an NHWD reading fit, channels
            are first. Grey and RGB items may be mixed and become RGB; PIL images may have any
            mode, and sizes that differ: the largest centred square of each is scaled.
        classes: the class names; else those of `source.classes`, else "0", "1" and so on.
        name: what error messages and records call the data.
        augment: the view recipe that suits training on them.
        image_size: rows and columns PIL images are brought to; by default, where their sizes
            differ, the median shorter side, at least 32, at most 224.

    Raises:
        DataError: arrays of mixed sizes, more than memory holds, lengths that differ, labels that
            are no class, pixels out of range.
        UnknownNameError: `augment` is no view recipe.
    """
    if isinstance(source, ImageData):
        return source
    images, labels = source if _is_pair(source) else _collect(source, name, image_size)
    images_NDHW, labels_N = _pixels(images, name), _labels(labels, name)
    names = _class_names(source, classes, labels_N, name)
    return ImageData(images_NDHW, labels_N, torch.arange(len(labels_N)), names, name, augment)


def _is_pair(source: Any) -> bool:
    return (
        isinstance(source, tuple | list)
        and len(source) == 2
        and isinstance(source[0], np.ndarray | Tensor)
    )


def _collect(source: Any, name: str, image_size: int | None) -> tuple[Tensor, list[int]]:
    """All items of a map-style dataset: images NDHW and their labels."""
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise DataError(
            f"{name}: cannot read {type(source).__name__}; give a pair (images, labels) of arrays, "
            "or a dataset with len() whose items are (image, label)"
        )
    items = [_item(source[0], 0, name)] if len(source) else []
    _check_memory(items, len(source), name)
    items += [_item(source[place], place, name) for place in range(1, len(source))]
    images = _one_size([image for image, _ in items], image_size)
    tensors = [_tensor(image, f"{name}, item {place}") for place, image in enumerate(images)]
    return _stack(tensors, name), [label for _, label in items]


def _check_memory(items: Sequence[tuple[Any, int]], count: int, name: str) -> None:
    """Refuses what cannot be held, by the size of the first item."""
    free, need = free_memory(), sum(np.asarray(image).nbytes for image, _ in items) * count
    if free is not None and need > free:
        raise DataError(
            f"{name}: {count:,} items like the first take {need / 1e9:.0f} GB, {free / 1e9:.0f} "
            "GB are free; as files, folder:DIR reads them batch by batch"
        )


def _one_size(images: list[Any], image_size: int | None) -> list[Any]:
    """The same, the PIL images among them brought to one size where they differ."""
    headers = [Header(*i.size, i.mode == "L") for i in images if isinstance(i, Image)]
    if not headers or (image_size is None and len({(h.width, h.height) for h in headers}) == 1):
        return images
    _, rows, columns = common_shape({"train": headers}, image_size)
    return [fit(i, rows, columns) if isinstance(i, Image) else i for i in images]


def _item(item: Any, place: int, name: str) -> tuple[Any, int]:
    if not (isinstance(item, tuple | list) and len(item) == 2):
        raise DataError(f"{name}: item {place} is {type(item).__name__}, expected (image, label)")
    image, label = item
    number = label.item() if isinstance(label, np.ndarray | np.generic | Tensor) else label
    if not isinstance(number, int):
        raise DataError(f"{name}: item {place} has a label {number!r}, expected an integer")
    return eight_bits(image) if isinstance(image, Image) else image, number


def _tensor(image: Any, name: str) -> Tensor:
    pixels = image if isinstance(image, Tensor) else np.asarray(image)
    return _pixels(pixels[None], name)[0]


def _stack(images: list[Tensor], name: str) -> Tensor:
    if not images:
        raise DataError(f"{name}: the dataset has no items")
    channels = max(len(image) for image in images)
    for place, image in enumerate(images):
        if (image.shape[1:], image.dtype) != (images[0].shape[1:], images[0].dtype):
            raise DataError(
                f"{name}: item 0 is {_describe(images[0])}, item {place} is {_describe(image)}; "
                "bring all images to one size and type"
            )
    return torch.stack([image.expand(channels, -1, -1) for image in images])


def _describe(image: Tensor) -> str:
    return f"{image.shape[1]}x{image.shape[2]} {str(image.dtype).removeprefix('torch.')}"


def _pixels(images: NDArray[Any] | Tensor, name: str) -> Tensor:
    """A copy with channels first, in float32 where it is of a floating type; not yet checked."""
    tensor = _copied(images, name)
    if tensor.ndim == 3:
        tensor = tensor[:, None]
    elif tensor.ndim == 4 and tensor.shape[1] not in (1, 3) and tensor.shape[3] in (1, 3):
        tensor = tensor.permute(0, 3, 1, 2)
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


def _labels(labels: Any, name: str) -> Tensor:
    tensor = _copied(labels if isinstance(labels, Tensor) else np.asarray(labels), name)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise DataError(f"{name}: labels are {kind}, expected integers from 0")
    return tensor.long()


def _copied(values: NDArray[Any] | Tensor, name: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu().clone()
    if values.dtype.kind not in "biuf":
        raise DataError(f"{name}: cannot use an array of {values.dtype}; numbers are expected")
    # Foreign byte orders and negative strides are nothing torch can read.
    return torch.tensor(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))


def _class_names(
    source: Any, classes: Sequence[str] | None, labels_N: Tensor, name: str
) -> tuple[str, ...]:
    names = getattr(source, "classes", None) if classes is None else classes
    if isinstance(names, list | tuple) and all(isinstance(entry, str) for entry in names):
        return tuple(names)
    if classes is not None:
        raise DataError(f"{name}: classes is {classes!r}, expected a list of names")
    count = int(labels_N.max()) + 1 if labels_N.numel() else 0
    if count > _MOST_CLASSES_GUESSED:
        raise DataError(f"{name}: a label is {count - 1}; give the class names as classes=[...]")
    return tuple(str(label) for label in range(count))
