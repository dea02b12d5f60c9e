"""Train, validation and test, and how validation is held out of train."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from collegium.data.class_names import class_numbers
from collegium.data.image_data import ImageData
from collegium.data.images.modes import PLAIN, PixelRule
from collegium.data.rng import Stream, fold, fold_in, signed
from collegium.errors import DataError, UnknownNameError

SPLIT_NAMES: Mapping[str, Sequence[str]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}
"""What folders and tables of each split are called."""


@dataclass(frozen=True)
class Splits:
    """The splits of one data set.

    Attributes:
        train: the training data.
        validation: the data for choices such as the best epoch, or None.
        test: the data for reported results, or None.
        notes: for the user, a line each.
        rule: how encoded images became these pixels.

    Raises:
        DataError: two splits differ in the shape of their images or in their class names.
    """

    train: ImageData
    validation: ImageData | None
    test: ImageData | None
    notes: tuple[str, ...] = ()
    rule: PixelRule = PLAIN

    @classmethod
    def of(cls, parts: Mapping[str, ImageData], notes: Iterable[str], rule: PixelRule) -> "Splits":
        """Splits by name, "train" and perhaps others; empty notes are left out."""
        kept = tuple(note for note in notes if note)
        return cls(parts["train"], parts.get("validation"), parts.get("test"), kept, rule)

    def with_notes(self, *notes: str) -> "Splits":
        """The same with further notes; empty ones are left out."""
        return replace(self, notes=(*self.notes, *filter(None, notes)))

    def with_held_out(self, fraction: float, seed: int) -> "Splits":
        """The same with a validation split, held out of train unless there is one."""
        if self.validation is not None:
            return self
        train, held_out = hold_out(self.train, fraction, seed)
        return replace(self, train=train, validation=held_out)

    def __post_init__(self) -> None:
        for name in self.names():
            other = self.get(name)
            if other.shape != self.train.shape:
                shapes = f"{other.shape}, those of train {self.train.shape}"
                raise DataError(f"{self.train.name}: images of {name} have the shape {shapes}")
            if other.classes != self.train.classes:
                raise DataError(
                    f"{self.train.name}: {name} has {len(other.classes)} classes, train "
                    f"{len(self.train.classes)}, or their names differ; give both the same classes"
                )

    @property
    def evaluation(self) -> ImageData:
        """The split for final results: test if there is one, else validation, else train."""
        return self.get(self.names()[-1])

    def names(self) -> tuple[str, ...]:
        """The names of the splits that are there."""
        return tuple(name for name in SPLIT_NAMES if getattr(self, name) is not None)

    def get(self, name: str) -> ImageData:
        """The split of that name.

        Raises:
            UnknownNameError: no split is ever called that.
            DataError: these data have no such split.
        """
        if name not in SPLIT_NAMES:
            raise UnknownNameError("split", name, SPLIT_NAMES)
        found: ImageData | None = getattr(self, name)
        if found is None:
            there = ", ".join(self.names())
            raise DataError(f"{self.train.name} has no {name} split here; it has: {there}")
        return found


def keep_classes(splits: Splits, names: Sequence[str]) -> Splits:
    """The examples of some classes, which are then all classes there are, in this order.

    Raises:
        UnknownNameError: there is no such class.
        DataError: fewer than two, one twice, or none of them in a split.
    """
    if not names:
        return splits
    known = splits.train.classes
    names = [known[place] for place in class_numbers(names, known, splits.train.name)]
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"give at least two classes, each once; found {', '.join(names)}")
    parts = {name: _of_classes(splits.get(name), names) for name in splits.names()}
    return Splits.of(parts, splits.notes, splits.rule)


def _of_classes(data: ImageData, names: Sequence[str]) -> ImageData:
    new = [names.index(name) if name in names else -1 for name in data.classes]
    labels_N = torch.tensor(new, device=data.labels_N.device)[data.labels_N]
    if not (labels_N >= 0).any():
        raise DataError(f"{data.name}: a split has no example of {', '.join(names)}")
    # They remain parts of the whole, whose pixels decide how networks see them.
    kept = replace(data, origin=data.whole).subset(labels_N >= 0)
    return replace(kept, labels_N=labels_N[labels_N >= 0], classes=tuple(names))


def check_fraction(fraction: float) -> None:
    """Refuses a fraction that cannot be held out.

    Raises:
        DataError: it is not at least 0 and below 1.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"validation is {fraction}; give a fraction of train, 0 <= f < 1")


def hold_out(
    train: ImageData, fraction: float, seed: int, stream: Stream = Stream.HOLD_OUT
) -> tuple[ImageData, ImageData | None]:
    """Splits a fraction off train, stratified by class; both parts keep the order.

    Which examples go is a pure function of (seed, stream, index). Each class gives its share of
    the fraction, rounded so that the sizes add up where classes are large enough, and keeps at
    least one example in train.

    Args:
        train: what to split.
        fraction: of train, 0 to below 1; a positive one gives at least one example.
        seed: any integer.
        stream: what the draw is for.

    Returns:
        The rest of train, and what was held out; None for the fraction 0. Both know their origin.

    Raises:
        DataError: the fraction is out of range, or no class has a second example to give.
    """
    check_fraction(fraction)
    if fraction == 0:
        return train, None
    quota_C = _quotas(torch.bincount(train.labels_N, minlength=len(train.classes)), fraction)
    if not quota_C.any():
        raise DataError(
            f"{train.name}: no class has two training examples, so none can be held out for "
            "validation; use validation=0"
        )
    held_N = _rank_in_class(train, seed, stream) < quota_C[train.labels_N]
    train = replace(train, origin=train.whole)
    return train.subset(~held_N), train.subset(held_N)


def _quotas(count_C: Int64[Tensor, " C"], fraction: float) -> Int64[Tensor, " C"]:
    """How many each class gives, by largest remainders: the sum is the rounded fraction."""
    spare_C = (count_C - 1).clamp_min(0)
    share_C = fraction * count_C.double()
    quota_C = share_C.long().minimum(spare_C)
    wanted = max(1, round(fraction * int(count_C.sum())))
    for place in (quota_C - share_C).argsort(stable=True).tolist():
        if quota_C.sum() < wanted and quota_C[place] < spare_C[place]:
            quota_C[place] += 1
    return quota_C


def _rank_in_class(data: ImageData, seed: int, stream: Stream) -> Int64[Tensor, " N"]:
    """Each example's place, from 0, in the random order of its class."""
    key = torch.tensor(signed(fold(seed, stream)), device=data.index_N.device)
    drawn = fold_in(key, data.index_N).argsort(stable=True)
    order = drawn[data.labels_N[drawn].argsort(stable=True)]
    count_C = torch.bincount(data.labels_N, minlength=len(data.classes))
    start_C = count_C.cumsum(0) - count_C
    rank_N = torch.empty_like(order)
    rank_N[order] = torch.arange(len(data), device=order.device)
    return rank_N - start_C[data.labels_N]
