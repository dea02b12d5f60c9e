"""Image classification data sets of the Hugging Face hub, by the `datasets` library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from collegium.data.albums import Album, load_albums
from collegium.data.pictures import Picture
from collegium.data.splits import Splits
from collegium.errors import DataError

_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
_USUAL_LABELS = ("label", "fine_label")


def load_hub(
    source: str, *, name: str, alternative: str = "", image_size: int | None = None
) -> Splits:
    """Downloads a data set, or takes it from the local cache; nothing is held out.

    Args:
        source: its name on the hub, or a local folder `datasets` can read.
        name: what the data are called here.
        alternative: what to say would work where the hub does not, as "; ...".
        image_size: see `collegium.data.albums.load_albums`.

    Raises:
        DataError: the library is missing, the hub cannot be reached, or the data are not images
            with a class label.
    """
    tables = _fetch(source, alternative)
    splits = {split: _table_of(tables, names) for split, names in _SPLITS.items()}
    there = {split: table for split, table in splits.items() if table is not None}
    if "train" not in there:
        raise DataError(f"{source} has no train split; it has: {', '.join(tables)}")
    image, label = _columns(there["train"], source)
    return load_albums(
        {split: _album(table, image, label, name, split) for split, table in there.items()},
        classes=tuple(there["train"].features[label].names),
        name=name,
        augment="crop-flip",
        image_size=image_size,
    )


def _fetch(source: str, alternative: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{source} comes from the hub by the datasets library, which is not installed: "
            f'pip install "collegium[hub]"{alternative}'
        ) from error
    try:
        return datasets.load_dataset(source)
    except Exception as error:  # the library passes on whatever its HTTP client raises
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"cannot get {source} from the hub: {reason}; check the name and the network"
            f"{alternative}"
        ) from error


def _table_of(tables: Any, names: Sequence[str]) -> Any:
    return next((tables[name] for name in names if name in tables), None)


def _columns(table: Any, source: str) -> tuple[str, str]:
    """The names of the image column and of the label column."""
    import datasets

    images = [key for key, kind in table.features.items() if isinstance(kind, datasets.Image)]
    labels = [key for key, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)]
    usual = [key for key in _USUAL_LABELS if key in labels] or labels
    if len(images) != 1 or not usual:
        raise DataError(
            f"{source} has the columns {', '.join(table.features)}; expected one of images and one "
            "of class labels"
        )
    return images[0], usual[0]


def _album(table: Any, image: str, label: str, name: str, split: str) -> Album:
    import datasets

    undecoded = table.cast_column(image, datasets.Image(decode=False))
    pictures = [
        Picture(f"{name} {split}[{row}]", cell["bytes"] or Path(cell["path"]))
        for row, cell in enumerate(undecoded[image])
    ]
    return Album(pictures, list(table[label]))
