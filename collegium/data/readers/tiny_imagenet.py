"""Tiny-ImageNet's official folder: 200 classes of ImageNet at 64x64.

Le and Yang, "Tiny ImageNet visual recognition challenge" (Stanford CS 231N, 2015).
train/WNID/images/*.JPEG, val/images/*.JPEG labelled by val/val_annotations.txt; the images of test/
were published without labels and are not read.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from collegium.data.data_string import DataSpec
from collegium.data.images.find import image_files
from collegium.data.images.load import EncodedSplit, ImageOptions, load_images
from collegium.data.images.source import ImageFiles
from collegium.data.readers.base import FOLDER_OPTIONS, AbstractReader, text_lines
from collegium.data.splits import Splits
from collegium.errors import DataError, UnknownNameError

_FOLDER = "tiny-imagenet-200"
_ANNOTATIONS = "val_annotations.txt"


def _locate(root: Path) -> Path:
    for folder in (root, root / _FOLDER):
        if (folder / "wnids.txt").is_file():
            return folder
    raise DataError(f"tiny-imagenet: {root} has no wnids.txt; give the official folder {_FOLDER}")


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"tiny-imagenet: {path} is missing; give the official folder {_FOLDER}")
    lines = text_lines(path)
    if not lines:
        raise DataError(f"{path} is empty")
    return lines


def _class_names(path: Path, wnids: list[str]) -> tuple[str, ...]:
    names = dict(line.partition("\t")[::2] for line in _lines(path))
    first = [names.get(wnid, wnid).partition(",")[0].strip() or wnid for wnid in wnids]
    times = Counter(first)
    pairs = zip(first, wnids, strict=True)
    return tuple(name if times[name] == 1 else f"{name} ({wnid})" for name, wnid in pairs)


def _train(folder: Path, wnids: list[str]) -> EncodedSplit:
    missing = [wnid for wnid in wnids if not (folder / wnid / "images").is_dir()]
    if missing:
        raise DataError(f"tiny-imagenet: {folder / missing[0] / 'images'} is missing")
    files = {f"{wnid}/images": image_files(folder / wnid / "images")[0] for wnid in wnids}
    source = ImageFiles(folder, files)
    return EncodedSplit.all_of(source, source.by_folder(range(len(wnids))))


def _val(folder: Path, wnids: list[str]) -> EncodedSplit:
    labels = _annotations(folder / _ANNOTATIONS, wnids)
    files, _ = image_files(folder / "images")
    unmatched = sorted(set(files).symmetric_difference(labels))
    if unmatched:
        path = folder / "images" / unmatched[0]
        problem = "is not in" if unmatched[0] in files else "is missing, but is in"
        raise DataError(f"tiny-imagenet: {path} {problem} {_ANNOTATIONS}")
    source = ImageFiles(folder, {"images": files})
    return EncodedSplit.all_of(source, np.array([labels[name] for name in files], np.int64))


def _annotations(path: Path, wnids: list[str]) -> Mapping[str, int]:
    number = {wnid: label for label, wnid in enumerate(wnids)}
    labels: dict[str, int] = {}
    for place, line in enumerate(_lines(path), start=1):
        name, wnid = [*line.split("\t"), ""][:2]
        if not wnid:
            raise DataError(f"{path}, line {place}: expected FILE, tab, class; found {line!r}")
        if name in labels:
            raise DataError(f"{path}, line {place}: {name} comes a second time")
        if wnid not in number:
            raise UnknownNameError(f"class in {path}", wnid, wnids)
        labels[name] = number[wnid]
    return labels


class TinyImageNetReader(AbstractReader):
    """`tiny-imagenet:DIR`: the official folder."""

    slug = "tiny-imagenet"
    needs = "DIR, the official folder tiny-imagenet-200"
    options = FOLDER_OPTIONS

    def read(self, spec: DataSpec, image_options: ImageOptions) -> Splits:
        """The splits of the official folder, or of the one it is in; nothing is held out.

        Returns:
            Train, and as validation the annotated images of val/. The classes are in the order of
            wnids.txt; their names are the first of words.txt, with the identifier where two agree.

        Raises:
            DataError: files are missing, or images and annotations do not match.
        """
        folder = _locate(spec.path)
        wnids = _lines(folder / "wnids.txt")
        return load_images(
            {"train": _train(folder / "train", wnids), "validation": _val(folder / "val", wnids)},
            classes=_class_names(folder / "words.txt", wnids),
            name="tiny-imagenet",
            image_options=image_options,
        )
