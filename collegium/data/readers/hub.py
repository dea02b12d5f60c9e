"""Image classification data sets that the `datasets` library reads: of the hub, or local ones."""

import contextlib
import logging
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit
from urllib.request import getproxies

from collegium.data.class_names import missing_note, name_notes
from collegium.data.data_string import DataSpec
from collegium.data.images.load import EncodedSplit, ImageOptions, load_images
from collegium.data.images.source import TableImages
from collegium.data.readers.base import IMAGE_OPTIONS, AbstractReader
from collegium.data.splits import SPLIT_NAMES, Splits
from collegium.data.targets import class_names_of, in_classes, read_targets
from collegium.errors import DataError, UnknownNameError
from collegium.utils.text import first_line

_USUAL_LABELS = ("label", "fine_label", "labels", "class", "target")
_SAVED = ("dataset_dict.json", "state.json")
_SHUFFLED_AT_ONCE = 1000
"""Rows among which a stream is shuffled; its files are shuffled too."""


@dataclass(frozen=True)
class Choices:
    """Which parts of a data set to use; an empty field is found automatically.

    Attributes:
        config: the configuration, of a data set that has several.
        train: the training split.
        validation: the validation split.
        test: the test split.
        image: the column of images.
        label: the column of classes.
        stream: how many rows of each split to stream without fetching the rest; empty fetches all.
    """

    config: str = ""
    train: str = ""
    validation: str = ""
    test: str = ""
    image: str = ""
    label: str = ""
    stream: str = ""


CHOICES = tuple(item.name for item in fields(Choices))


def load_hub(
    source: str,
    *,
    name: str,
    image_options: ImageOptions,
    choices: Choices = Choices(),
    alternative: str = "",
) -> Splits:
    """Reads a local data set, or one of the hub from the local cache or the network.

    Nothing is held out. Tables stay on disk, as memory maps.

    Args:
        source: its name on the hub; or a parquet file or a pattern for several; or a folder that
            `save_to_disk` wrote, or of parquet files, or of images.
        name: of the data, in messages and records.
        image_options: size, and what to do with damaged images.
        choices: splits and columns, if they are not evident.
        alternative: advice for an error message if the hub cannot be reached, as "; ...".

    Returns:
        The splits; a split whose labels are all hidden (-1) is left out, with a note.

    Raises:
        DataError: the library is missing, the hub cannot be reached, or the data are not images
            with one class each.
        UnknownNameError: there is no such split or column, or train lacks a class.
    """
    fetched = _fetch(source, choices, alternative)
    tables = _tables(fetched, choices, source)
    train = Rows.of(tables["train"], source, choices)
    named, classes = False, train.classes
    hidden: list[str] = []
    encoded: dict[str, EncodedSplit] = {}
    for split, table in tables.items():
        _check_columns(table, (train.image, train.label), f"{source}, {split}")
        labels, where = list(table[train.label]), f"{source}, {split}, column {train.label}"
        if split != "train" and set(labels) == {-1}:
            hidden.append(split)
            continue
        targets, own = read_targets(labels, where), _own_names(table, train.label)
        if split == "train":
            named, classes = bool(targets.names), class_names_of(targets, own, where)
        images = TableImages(table, train.image, f"{name} {split}")
        label_N = in_classes(targets, own, classes, named, where)
        encoded[split] = EncodedSplit.all_of(images, label_N)
    splits = load_images(encoded, classes=classes, name=name, image_options=image_options)
    present = set(encoded["train"].label_N.tolist())
    return splits.with_notes(
        *(f"{name}: {split} has no labels (all are -1) and is not used" for split in hidden),
        _unused_note(fetched, tables, name),
        *name_notes(name, train.classes, classes),
        missing_note(f"{name}: no training example is of", classes, present),
    )


def _fetch(source: str, choices: Choices, alternative: str) -> Mapping[str, Any]:
    """All splits of a data set."""
    rows = _rows_to_take(choices.stream)
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{source} is read by the datasets library, which is not installed: "
            f'pip install "collegium[hub]"{alternative}'
        ) from error
    path = Path(source).expanduser()
    local = path.exists() or "*" in source
    if not local and (source[:1] in "/.~" or path.suffix == ".parquet"):
        raise DataError(f"hf: there is no file or folder {path}")
    try:
        with _quiet_library(), contextlib.nullcontext() if local else _offline_at_once():
            found = _open(source, path, choices.config, rows)
    except Exception as error:  # of any class: the library does not wrap what its parts raise
        reason = first_line(error)
        if local:
            raise DataError(f"the datasets library cannot read {path}: {reason}") from error
        raise DataError(
            f"cannot get {source} from the hub: {reason}; check the name and the network"
            f"{alternative}"
        ) from error
    return {"train": found} if isinstance(found, datasets.Dataset) else found


def _open(source: str, path: Path, config: str, rows: int) -> Any:
    import datasets

    if any((path / name).is_file() for name in _SAVED):
        if rows:
            raise ValueError("what save_to_disk wrote is here already: ?stream is for the others")
        return _from_disk(path)
    named: dict[str, Any] = {"path": str(path) if path.is_dir() else source, "name": config or None}
    if path.is_file() or "*" in source:
        named = {"path": "parquet", "data_files": {"train": str(path)}}
    if rows:
        streams = datasets.load_dataset(**named, streaming=True)
        return {split: _first_rows(stream, rows) for split, stream in streams.items()}
    return datasets.load_dataset(**named)


def _rows_to_take(text: str) -> int:
    """The number of rows of each split in `?stream=`; 0 without it."""
    if text and not (text.isascii() and text.isdecimal() and int(text)):
        raise DataError(f"?stream={text}: give the number of rows to take of each split, from 1")
    return int(text or 0)


def _first_rows(stream: Any, rows: int) -> Any:
    """The first rows of a shuffled `IterableDataset`, as a table in the library's cache.

    The order is drawn from a fixed seed, since many data sets are sorted by class. The same request
    finds its table again and streams nothing.
    """
    import datasets

    for column, kind in (stream.features or {}).items():
        if isinstance(kind, datasets.Image):
            stream = stream.cast_column(column, datasets.Image(decode=False))
    part = stream.shuffle(seed=0, buffer_size=_SHUFFLED_AT_ONCE).take(rows)
    return datasets.Dataset.from_generator(
        _rows_of, gen_kwargs={"stream": part}, features=part.features
    )


def _rows_of(stream: Any) -> Iterator[dict[str, Any]]:
    yield from stream


def _from_disk(path: Path) -> Any:
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except IndexError:  # of the library, in a table without any files
        raise ValueError("a split of it has no rows: save it without that split") from None


@contextlib.contextmanager
def _quiet_library() -> Iterator[None]:
    """Silence the library's log, which repeats the error that we report, and bars in files."""
    import datasets

    log = logging.getLogger("datasets")
    level, bars = log.level, datasets.is_progress_bar_enabled() and not sys.stderr.isatty()
    log.setLevel(logging.CRITICAL + 1)
    if bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        log.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _offline_at_once() -> Iterator[None]:
    """Without a network, let the library use its cache at once instead of retrying for 23 s."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    offline = constants.HF_HUB_OFFLINE
    try:
        if not getproxies():
            socket.getaddrinfo(host, None)
    except OSError:
        offline = True
    with mock.patch.object(constants, "HF_HUB_OFFLINE", offline):
        yield


def _tables(found: Mapping[str, Any], choices: Choices, source: str) -> dict[str, Any]:
    """The tables to use, by split."""
    tables: dict[str, Any] = {}
    for split, usual in SPLIT_NAMES.items():
        requested = getattr(choices, split)
        if requested and requested not in found:
            raise UnknownNameError(f"split of {source}", requested, found)
        names = [requested] if requested else [name for name in usual if name in found]
        if names:
            tables[split] = found[names[0]]
    if "train" not in tables:
        there = ", ".join(found)
        raise DataError(f"{source} has no train split; it has: {there} (?train=NAME takes another)")
    return tables


def _unused_note(found: Mapping[str, Any], tables: Mapping[str, Any], name: str) -> str:
    """A note on splits that are not used."""
    used = [id(table) for table in tables.values()]
    left = {split: len(table) for split, table in found.items() if id(table) not in used}
    if not left:
        return ""
    named = ", ".join(f"{split} ({rows:,} rows)" for split, rows in left.items())
    return f"{name}: splits not used: {named}; ?validation=NAME or ?test=NAME takes one"


def _check_columns(table: Any, columns: Sequence[str], where: str) -> None:
    known = table.column_names
    if lacks := [column for column in columns if column not in known]:
        raise DataError(
            f"{where} has no column {lacks[0]}, which train has; it has: {', '.join(known)}"
        )
    if not len(table):
        raise DataError(f"{where} has no rows")


def _may_be_image(kind: Any) -> bool:
    """Whether a column has bytes, or bytes and a path, as image columns are stored."""
    if isinstance(kind, dict):
        return set(kind) == {"bytes", "path"}
    return getattr(kind, "dtype", None) in ("binary", "large_binary")


def _chosen(requested: str, evident: Sequence[str], known: Mapping[str, Any], source: str) -> str:
    if requested and requested not in known:
        raise UnknownNameError(f"column of {source}", requested, known)
    if not requested and len(evident) != 1:
        raise DataError(
            f"{source} has the columns {', '.join(known)}; expected one of images and one of "
            f"classes: name them, as in ?image=NAME&label=NAME"
        )
    return requested or evident[0]


@dataclass(frozen=True)
class Rows:
    """The rows of a table as a data set of (image, label).

    Attributes:
        table: a `datasets.Dataset`.
        image: the column of images.
        label: the column of classes.
        classes: the name for each number; empty if the table has none.
    """

    table: Any
    image: str
    label: str
    classes: tuple[str, ...]

    @classmethod
    def of(cls, table: Any, name: str, choices: Choices = Choices()) -> "Rows":
        """The rows of a table, with the chosen columns or those that evidently have the content.

        Raises:
            DataError: it is not evident which columns have images and labels.
            UnknownNameError: there is no chosen column.
        """
        import datasets

        known = dict(table.features)
        images = [key for key, kind in known.items() if isinstance(kind, datasets.Image)]
        images = images or [key for key, kind in known.items() if _may_be_image(kind)]
        labels = [key for key, kind in known.items() if isinstance(kind, datasets.ClassLabel)]
        usual = [key for key in _USUAL_LABELS if key in (labels or known)][:1]
        image = _chosen(choices.image, images, known, name)
        label = _chosen(choices.label, usual or labels, known, name)
        return cls(table, image, label, _own_names(table, label))

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        row = self.table[place]
        return row[self.image], row[self.label]


def _own_names(table: Any, column: str) -> tuple[str, ...]:
    """The names that belong to a split's own numbers; empty if there are none."""
    return tuple(getattr(table.features.get(column), "names", None) or ())


class HubReader(AbstractReader):
    """`hf:NAME_OR_PATH`: images with a class each, as the `datasets` library reads them."""

    slug = "hf"
    needs = "NAME_OR_PATH, like hf:uoft-cs/cifar10"
    options = (*IMAGE_OPTIONS, *CHOICES)

    def read(self, spec: DataSpec, image_options: ImageOptions) -> Splits:
        """See `load_hub`."""
        choices = Choices(**{key: value for key, value in spec.options.items() if key in CHOICES})
        name = spec.path.stem if spec.path.suffix == ".parquet" else spec.path.name
        return load_hub(spec.place, name=name, image_options=image_options, choices=choices)
