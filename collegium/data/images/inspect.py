"""Inspect all images of a data set together: choose one pixel scale and size, and report losses."""

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from collegium.data.images.decode import Header
from collegium.data.images.modes import Look, PixelRule
from collegium.data.images.options import ImageOptions
from collegium.data.images.pixel_scale import Span, choose_scale, dark_told, guess_told
from collegium.errors import DataError
from collegium.types import MapShape

_NAMED = 3
_CHUNK = 1024
_LEFT = 0.75
"""For images of many sizes: cropping is reported if it keeps less than this part of the pixels."""
_REMEDIES = {
    False: ("give ?range=BLACK,WHITE", "?alpha=white or ?alpha=black"),
    True: ("give pixel_range=(BLACK, WHITE)", "alpha='white' or alpha='black'"),
}
_SIZE = "--image-size ROWS,COLUMNS"
_WHITE_OF_FILES = 65535


@dataclass(frozen=True)
class Inspected:
    """What is known of a split before it is decoded.

    Attributes:
        headers: of its pictures, or of so many evenly spread.
        looks: at those whose headers leave depth or transparency open, in their order.
        name_of: what messages call the picture of a header, by the header's place.
    """

    headers: Sequence[Header]
    looks: Sequence[Look]
    name_of: Callable[[int], str]

    def sizes(self) -> Iterator[tuple[str, Header]]:
        """Name and header of every picture."""
        return ((self.name_of(at), header) for at, header in enumerate(self.headers))

    def spans(self) -> list[Span]:
        """The numbers of all deep pictures."""
        return [look.span for look in self.looks if look.span is not None]


def find_rule(
    looked: Mapping[str, Inspected], name: str, image_options: ImageOptions, *, python: bool = False
) -> tuple[PixelRule, list[str]]:
    """How pictures of all splits become eight bits, and what the user should know of that.

    Args:
        looked: the pictures.
        name: of the set.
        image_options: the requested image options.
        python: whether they came from Python, where remedies are written otherwise.

    Raises:
        DataError: no reading is sensible, or every picture lies in its transparency alone.
    """
    spans = {split: Span.join(found.spans()) for split, found in looked.items() if found.spans()}
    range_, alpha = _REMEDIES[python]
    scale, notes = image_options.scale, _transparent(looked, name, image_options, alpha)
    if spans and scale is None:
        scale = choose_scale(spans, name, range_)
        span = Span.join(list(spans.values()))
        usual = (0, _WHITE_OF_FILES) if span.whole else (0, 1)
        if (scale.black, scale.white) != usual:
            notes.append(guess_told(span, scale, name, "pixels of more than 8 bits", range_))
    frames = sum(header.frames for found in looked.values() for header in found.headers)
    if frames:
        notes.append(f"{name}: {frames:,} images have several frames; the first of each is used")
    return PixelRule(scale if spans else None, image_options.alpha), notes


def _transparent(
    looked: Mapping[str, Inspected], name: str, image_options: ImageOptions, remedy: str
) -> list[str]:
    looks = [look for found in looked.values() for look in found.looks]
    clear, hidden = (sum(getattr(look, key) for look in looks) for key in ("clear", "hidden"))
    if not clear or image_options.alpha != "drop":
        return []
    total = sum(len(found.headers) for found in looked.values())
    if hidden == total:
        raise DataError(
            f"{name}: every image is of one colour under its transparency, which holds what is to "
            f"be seen: say what they lie on, {remedy}"
        )
    return [
        f"{name}: transparency of {clear:,} of {total:,} images is dropped"
        + (f", of which {hidden:,} are of one colour under it" if hidden else "")
        + f"; {remedy} puts them on that"
    ]


def sizes_told(
    looked: Mapping[str, Inspected], shape: MapShape, name: str, remedy: str = _SIZE
) -> list[str]:
    """A line on what is lost where pictures are cut and scaled and nobody asked for it.

    Args:
        looked: of every split.
        shape: what all are brought to.
        name: of the set.
        remedy: how a person says which shape.
    """
    rows, columns = shape[1:]
    headers = [header for found in looked.values() for header in found.headers]
    count = sum((header.height, header.width) != (rows, columns) for header in headers)
    if not count:
        return []
    if 2 * count < len(headers):
        return [
            f"{name}: {count:,} of {len(headers):,} images are not {rows}x{columns} (rows x "
            f"columns) and are cut to that shape and scaled: {_named(looked, rows, columns)}; "
            f"{remedy} takes another"
        ]
    left = statistics.median(_left(header, rows / columns) for header in headers)
    if left >= _LEFT:
        return []
    return [
        f"{name}: images have many sizes; the largest centred part of the shape {rows}x{columns} "
        f"of each is used, {100 * left:.0f} % of its pixels; {remedy} takes "
        "another shape"
    ]


def _named(looked: Mapping[str, Inspected], rows: int, columns: int) -> str:
    """The first pictures of another size."""
    others = (
        f"{name} ({header.height}x{header.width})"
        for found in looked.values()
        for name, header in found.sizes()
        if (header.height, header.width) != (rows, columns)
    )
    first = list(itertools.islice(others, _NAMED + 1))
    return ", ".join(first[:_NAMED]) + ", ..." * (len(first) > _NAMED)


def _left(header: Header, aspect: float) -> float:
    """The part of a picture's pixels that its largest part of a shape (rows / columns) has."""
    own = header.height / header.width
    return min(own / aspect, aspect / own)


def refuse_blank(images: Mapping[str, Tensor], name: str) -> list[str]:
    """Refuse a set with nothing to see; count the pictures of which that holds.

    Args:
        images: pixels NDHW of each split.
        name: of the set.

    Raises:
        DataError: all pixels of train are equal.
    """
    train = images["train"]
    low, high = (float(bound) for bound in train.aminmax())
    if low == high and len(train) > 1:
        raise DataError(
            f"{name}: every pixel of all {len(train):,} images is {low:g}: there is nothing to see "
            "in them; were they scaled or cast before?"
        )
    notes = [dark_told(high, 1.0 if train.is_floating_point() else 255.0, name)]
    notes += [
        dark_told(float(part.max()), 1.0 if part.is_floating_point() else 255.0, f"{name}, {split}")
        for split, part in images.items()
        if split != "train" and not notes[0]
    ]
    blank, total = sum(map(_blank, images.values())), sum(map(len, images.values()))
    if blank:
        notes.append(f"{name}: {blank:,} of {total:,} images are of one colour, nothing to see")
    return [note for note in notes if note]


def _blank(images_NDHW: Tensor) -> int:
    """How many pictures have one value in every channel."""
    chunks = (chunk.flatten(2) for chunk in images_NDHW.split(_CHUNK))
    return sum(int((part == part[:, :, :1]).flatten(1).all(dim=1).sum()) for part in chunks)
