"""Pictures that cannot be decoded: found, counted, named and left out."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from collegium.data.images.decode import MANY, fault
from collegium.data.images.files import Pictures
from collegium.data.images.lazy import work_ahead
from collegium.data.images.options import ImageOptions
from collegium.errors import DataError

_CHUNK = 256
_NAMED = 3


def undamaged(
    splits: Mapping[str, Pictures], name: str, image_options: ImageOptions
) -> tuple[dict[str, NDArray[np.bool_]], tuple[str, ...]]:
    """Which pictures of each split can be decoded; each is decoded once, at the smallest size.

    Args:
        splits: the pictures.
        name: what the data are called.
        image_options: who is told how far this is.

    Returns:
        N truth values for each split; and a note for the user, if some are damaged.

    Raises:
        DataError: a split has no sound picture.
    """
    kept, said = {}, []
    for split, pictures in splits.items():
        faults = _faults(pictures, f"{name} {split}: checked", image_options)
        kept[split] = np.array([not text for text in faults], bool)
        said += [text for text in faults if text]
        if not kept[split].any():
            raise DataError(f"{name}: no image of {split} can be decoded; {said[-1]}")
    total = sum(map(len, kept.values()))
    return kept, (_note(name, said, total),) if said else ()


def _faults(pictures: Pictures, doing: str, image_options: ImageOptions) -> list[str]:
    batches = torch.arange(len(pictures)).split(_CHUNK)
    workers = image_options.workers if len(pictures) >= MANY else 0
    parts = work_ahead(functools.partial(_look, pictures), batches, workers)
    told = image_options.told(parts, _CHUNK, len(pictures), doing)
    return [text for part in told for text in part]


def _look(pictures: Pictures, positions_B: Tensor) -> list[str]:
    some = pictures.subset(positions_B.numpy())
    return [fault(some[place]) for place in range(len(some))]


def _note(name: str, said: Sequence[str], total: int) -> str:
    rest = len(said) - _NAMED
    more = f"; and {rest:,} more" if rest > 0 else ""
    first = "; ".join(said[:_NAMED])
    return (
        f"{name}: skipped {len(said):,} of {total:,} images that cannot be decoded: {first}{more}"
    )
