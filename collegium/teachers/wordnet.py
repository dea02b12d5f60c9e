"""Matches classes named by WordNet identifiers (n01440764) to classes named by ImageNet's words.

ImageNet's folders are named by identifiers. Most ImageNet classifiers name their classes by words,
in the order of the sorted identifiers. The package timm contains tables that relate the two; this
module reads them as text files, so it also works where timm is installed but fails to import.
"""

import functools
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path

IDENTIFIER = re.compile(r"n\d{8}")
IMAGENET = 1000
_SURE = 0.9
"""Fraction of a teacher's 1,000 names that must equal ImageNet's names at the same positions."""
MISSING = (
    "the data's classes are WordNet identifiers; the table of their words comes with timm: pip "
    'install "collegium[timm]"'
)


def are_identifiers(names: Sequence[str]) -> bool:
    """Whether all names are WordNet identifiers.

    >>> are_identifiers(["n01440764", "n01443537"]), are_identifiers(["tench"])
    (True, False)
    """
    return bool(names) and all(IDENTIFIER.fullmatch(name) for name in names)


def as_identifiers(
    names: Sequence[str], aliases: Callable[[str], Sequence[str]]
) -> tuple[str, ...] | None:
    """Convert ImageNet's 1,000 class names, in ImageNet's order, to WordNet identifiers.

    Args:
        names: of a teacher's classes, in the order of its logits.
        aliases: returns all spellings of a name that count as equal.

    Returns:
        The identifiers in the order of `names`; None if these are not ImageNet's names, or if no
        table is installed.
    """
    table = synsets()
    if len(names) != IMAGENET or not table:
        return None
    # Without the number that makes duplicate names unique.
    plain = (re.sub(r" \(\d+\)$", "", name) for name in names)
    pairs = zip(plain, table, strict=True)
    same = sum(not {*aliases(name)}.isdisjoint(aliases(words)) for name, (_, words) in pairs)
    return tuple(identifier for identifier, _ in table) if same >= _SURE * IMAGENET else None


def as_words(names: Sequence[str]) -> tuple[str, ...]:
    """Replace identifiers by their words if a table lists them; keep other names."""
    words = _lemmas()
    return tuple(words.get(name, name) for name in names)


@functools.cache
def synsets() -> tuple[tuple[str, str], ...]:
    """Identifier and words of each of ImageNet's 1,000 classes, in order; empty without timm."""
    words, order = _lemmas(), _read_table("imagenet_synsets.txt").split()
    return tuple((identifier, words.get(identifier, identifier)) for identifier in order if words)


@functools.cache
def _lemmas() -> dict[str, str]:
    lines = _read_table("imagenet_synset_to_lemma.txt").splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def _read_table(name: str) -> str:
    """The text of one of timm's tables; empty where it is missing."""
    folder = _tables()
    try:
        return "" if folder is None else (folder / name).read_text()
    except OSError:
        return ""


def _tables() -> Path | None:
    """The folder of timm's tables; None if timm is not installed."""
    found = importlib.util.find_spec("timm")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "data" / "_info"
