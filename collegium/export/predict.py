"""Predictions of a run's student for image files, prepared exactly as in evaluation."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from collegium.data import ImageData
from collegium.data.images.decode import LEAVE_OUT, EncodedImage, decode, read_headers
from collegium.data.images.find import image_files
from collegium.data.images.inspect import find_rule, inspect_encoded
from collegium.data.images.modes import PixelRule
from collegium.errors import DataError
from collegium.evaluation.predict import predict as run_over
from collegium.export.load_student import Student, open_student
from collegium.export.options import Which
from collegium.export.paths import check_images
from collegium.export.verify import check_finite
from collegium.models.features.work import multiply_adds
from collegium.records.run_folder import Json
from collegium.utils.threads import choose_threads
from collegium.utils.torch_state import as_ever

CHUNK = 500
"""Images at a time, as in evaluation."""


@as_ever
def predict(
    folder: Path | str,
    images: Sequence[Path | str],
    *,
    top: int = 5,
    weights: Which = "last",
    student: nn.Module | None = None,
    tell: Callable[[str], None] = warnings.warn,
) -> list[Json]:
    """Classes and probabilities of a run's student for image files.

    An image is prepared like the run's data: turned upright, cropped to the largest centred part of
    their shape, scaled to their size, converted to grey or colour, depth and transparency as in the
    run; then normalised for the student.

    Args:
        folder: of a finished run.
        images: files, or folders of them at any depth.
        top: so many classes, the most probable first.
        weights: the student after the last epoch, or of the best.
        student: a network like the student, if the run had one from Python.
        tell: called with a line for each file skipped or property guessed; by default a warning.

    Returns:
        For each image `image` (its path), `classes` (names) and `probabilities` (0..1).

    Raises:
        FolderError: the folder has no finished run.
        DataError: an image is missing or cannot be read; the message names it.
        NumericsError: the student gives NaN or infinite logits.
    """
    check_images(images, top)
    pictures = [EncodedImage(str(path), path) for path in _files(images, tell)]
    opened = open_student(folder, weights, student)
    try:
        opened = replace(opened, rule=_rule(opened.rule, pictures, tell))
        torch.set_num_threads(useful_threads(opened))
        chunks = (pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK))
        return [row for chunk in chunks for row in _rows(opened, chunk, top)]
    except DataError as error:  # its advice applies to a data set but not to a few images
        raise DataError(str(error).removesuffix(LEAVE_OUT)) from None


def useful_threads(opened: Student) -> int:
    """The number of CPU threads that an evaluation of the student is worth."""
    work = CHUNK * multiply_adds(opened.network, opened.image_shape)
    return choose_threads(work, torch.get_num_threads())


def _files(images: Sequence[Path | str], tell: Callable[[str], None]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, images):
        if not path.is_dir():
            files.append(path)
            continue
        names, passed = image_files(path)
        files += [path / name for name in names]
        if passed:
            tell(passed)
    return files


def _rule(rule: PixelRule, pictures: list[EncodedImage], tell: Callable[[str], None]) -> PixelRule:
    """The run's pixel rule; that of these images if they have more than the run's eight bits."""
    if rule.scale is not None:
        return rule
    if not any(header.deep for header in read_headers(pictures)):
        return rule
    found, notes = find_rule({"images": inspect_encoded(pictures)}, "images", rule)
    for note in notes:
        tell(note)
    return found


def _rows(opened: Student, pictures: Sequence[EncodedImage], top: int) -> list[Json]:
    """The most probable classes of some images, by the function that evaluation uses."""
    images_BDHW = decode(pictures, opened.image_shape, opened.rule)
    index_B = torch.arange(len(pictures))
    classes = opened.network.classes
    data = ImageData(images_BDHW, index_B * 0, index_B, classes, "images", "none")
    logits_BC = run_over(opened.network, data, batch_size=CHUNK).logits_NC
    check_finite(logits_BC)
    found = logits_BC.softmax(dim=1).topk(min(top, logits_BC.shape[1]), dim=1)
    likely = zip(pictures, found.values.tolist(), found.indices.tolist(), strict=True)
    return [
        {"image": picture.name, "classes": [classes[at] for at in places], "probabilities": values}
        for picture, values, places in likely
    ]
