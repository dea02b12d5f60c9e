"""Inspect all images of a data set together: choose one pixel scale and size, and report losses."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from collegium.data.images.decode import EncodedImage, Header, read_headers, read_pixel_facts
from collegium.data.images.modes import PixelFacts, PixelRule
from collegium.data.images.pixel_scale import Span, choose_scale, guess_note
from collegium.errors import DataError
from collegium.types import MapShape
from collegium.utils.text import some

_CHUNK = 1024
_DARK = 16  # pixels below this part of white are nearly black
_KEPT = 0.75
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
        headers: of its images, or of some of them, evenly spread.
        facts: of the pixels of those that are deep or have an alpha channel, in their order.
        name_of: the name of the image of a header, by the header's place.
    """

    headers: Sequence[Header]
    facts: Sequence[PixelFacts]
    name_of: Callable[[int], str]

    def spans(self) -> list[Span]:
        """Range of the numbers of each deep image."""
        return [fact.span for fact in self.facts if fact.span is not None]


def inspect_encoded(images: Sequence[EncodedImage]) -> Inspected:
    """Headers and pixels of encoded images.

    Raises:
        DataError: one cannot be read, is a decompression bomb or has pixels that are NaN.
    """
    headers = read_headers(images)
    return Inspected(headers, read_pixel_facts(images, headers), lambda at: images[at].name)


def find_rule(
    inspected: Mapping[str, Inspected], name: str, rule: PixelRule, *, python: bool = False
) -> tuple[PixelRule, list[str]]:
    """How images of all splits become eight bits, with notes for the user.

    Args:
        inspected: the images of each split.
        name: of the data, in messages.
        rule: what the user chose; a scale of None is found.
        python: the images came from Python, where options are written differently.

    Raises:
        DataError: no scale suits the numbers, or all images have one colour under transparency.
    """
    spans = {split: Span.join(part.spans()) for split, part in inspected.items() if part.spans()}
    range_, alpha = _REMEDIES[python]
    scale, notes = rule.scale, _alpha_notes(inspected, name, rule, alpha)
    if spans and scale is None:
        scale = choose_scale(spans, name, range_)
        integral = all(span.integral for span in spans.values())
        usual = (0, _WHITE_OF_FILES) if integral else (0, 1)
        if (scale.black, scale.white) != usual:
            notes.append(guess_note(spans, scale, name, "pixels of more than 8 bits", range_))
    frames = sum(header.frames for part in inspected.values() for header in part.headers)
    if frames:
        notes.append(f"{name}: {frames:,} images have several frames; the first of each is used")
    return PixelRule(scale if spans else None, rule.alpha), notes


def _alpha_notes(
    inspected: Mapping[str, Inspected], name: str, rule: PixelRule, remedy: str
) -> list[str]:
    facts = [fact for part in inspected.values() for fact in part.facts]
    clear, hidden = sum(fact.clear for fact in facts), sum(fact.hidden for fact in facts)
    if not clear or rule.alpha != "drop":
        return []
    total = sum(len(part.headers) for part in inspected.values())
    if hidden == total:
        raise DataError(
            f"{name}: every image has one colour, and only its transparency varies: choose the "
            f"background, {remedy}"
        )
    return [
        f"{name}: transparency of {clear:,} of {total:,} images is dropped"
        + (f"; {hidden:,} of them have one colour under it" if hidden else "")
        + f"; {remedy} sets the background"
    ]


def crop_notes(
    inspected: Mapping[str, Inspected], shape: MapShape, name: str, remedy: str = _SIZE
) -> list[str]:
    """A note on what cropping and scaling to the shape of most images loses.

    Args:
        inspected: the images of each split.
        shape: channels, rows and columns that all get.
        name: of the data, in messages.
        remedy: how a user chooses another shape.
    """
    rows, columns = shape[1:]
    sizes = [
        (part.name_of(place), header.height, header.width)
        for part in inspected.values()
        for place, header in enumerate(part.headers)
    ]
    others = [f"{one} ({h}x{w})" for one, h, w in sizes if (h, w) != (rows, columns)]
    if not others:
        return []
    if 2 * len(others) < len(sizes):
        return [
            f"{name}: {len(others):,} of {len(sizes):,} images are not {rows}x{columns} (rows x "
            f"columns) and are cut to that shape and scaled: {some(others)}; "
            f"{remedy} takes another"
        ]
    kept = statistics.median(_kept(h / w, rows / columns) for _, h, w in sizes)
    if kept >= _KEPT:
        return []
    return [
        f"{name}: images have many sizes; the largest centred part of the shape {rows}x{columns} "
        f"of each is used, {100 * kept:.0f} % of its pixels; {remedy} takes "
        "another shape"
    ]


def _kept(own: float, wanted: float) -> float:
    """Share of an image's pixels in its largest part of another aspect (rows / columns)."""
    return min(own / wanted, wanted / own)


def refuse_blank(images: Mapping[str, Tensor], name: str) -> list[str]:
    """Refuse data without content; notes on nearly black splits and on blank images.

    Args:
        images: pixels NDHW of each split.
        name: of the data, in messages.

    Raises:
        DataError: all pixels of train are equal.
    """
    train = images["train"]
    low, high = (float(bound) for bound in train.aminmax())
    if low == high and len(train) > 1:
        raise DataError(
            f"{name}: every pixel of all {len(train):,} images is {low:g}: the images are blank; "
            "were they scaled or cast before?"
        )
    notes = [_dark(train, name)]
    if not notes[0]:
        notes += [_dark(images[split], f"{name}, {split}") for split in images if split != "train"]
    blank, total = sum(map(_blank, images.values())), sum(map(len, images.values()))
    if blank:
        notes.append(f"{name}: {blank:,} of {total:,} images have one colour only")
    return [note for note in notes if note]


def _dark(images_NDHW: Tensor, name: str) -> str:
    """A note on pixels that are nearly black; empty if they are not."""
    high, white = float(images_NDHW.max()), 1.0 if images_NDHW.is_floating_point() else 255.0
    if high * _DARK >= white:
        return ""
    return (
        f"{name}: the brightest pixel of all is {high:g} of {white:g}, nearly black; were these "
        "pixels divided once too often?"
    )


def _blank(images_NDHW: Tensor) -> int:
    """How many images have one value in every channel."""
    chunks = (chunk.flatten(2) for chunk in images_NDHW.split(_CHUNK))
    return sum(int((part == part[:, :, :1]).flatten(1).all(dim=1).sum()) for part in chunks)
