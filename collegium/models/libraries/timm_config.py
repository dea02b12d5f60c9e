"""timm's config.json beside weights: preprocessing and class names."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collegium.errors import RequestError, WeightsError
from collegium.models.libraries.common import SMALLEST, interpolation
from collegium.models.network import Preprocess

CONFIG = "config.json"
ADVICE = "correct it, or take it away and give ?mean=...&std=...&size=..."
SQUASH = ("squash", "border")
"""Crop modes that do nothing to a square view except resizing it."""


def preprocess_of(metadata: Mapping[str, Any], source: object) -> Preprocess:
    """The preprocessing of a `pretrained_cfg`: resize, then crop the centre, as timm does.

    Without a `crop_pct` nothing is cropped, though timm has a default.

    Args:
        metadata: with mean and std.
        source: for messages.

    Raises:
        RequestError: its values make no sense.
    """
    how = metadata.get("interpolation", "bicubic")
    try:
        mean, std = (tuple(float(value) for value in metadata[key]) for key in ("mean", "std"))
        rows, columns = (int(side) for side in (metadata.get("input_size") or (3, 224, 224))[1:])
        share = float(metadata.get("crop_pct") or 1)
        full: tuple[int, ...] = (math.floor(rows / share), math.floor(columns / share))
        if share > 1:
            raise RequestError(f"crop_pct {share:g} puts a border around images; {ADVICE}")
        if rows == columns and metadata.get("crop_mode") not in SQUASH:
            full = full[:1]  # the shorter side: the ratio is kept
        resize = None if full == (rows, columns) else full
        return Preprocess(mean, std, SMALLEST, (rows, columns), interpolation(how), resize=resize)
    except RequestError as error:
        raise RequestError(f"{source}: {error}") from None
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        raise RequestError(
            f"{source}: its pretrained_cfg is not of numbers (mean, std, input_size, crop_pct); "
            f"{ADVICE}"
        ) from None


def metadata_beside(file: Path, member: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The config.json beside a weights file, as metadata of a weights file.

    Args:
        file: of the weights.
        member: the network's name, with or without a tag.

    Returns:
        The metadata, and notes for the user. Both are empty if there is no such file or it belongs
        to another library.

    Raises:
        WeightsError: it cannot be read.
        RequestError: its values make no sense.
    """
    place = file.parent / CONFIG
    content = _read(place)
    architecture = str(content.get("architecture") or "")
    if not architecture:
        return {}, ()
    if architecture.partition(".")[0] != member.partition(".")[0]:
        return {}, (f"{place} is of {architecture}, so it is ignored",)
    config = content.get("pretrained_cfg")
    config = config if isinstance(config, Mapping) else content  # older versions had one level
    metadata, notes = _classes(content, config, place)
    if licence := config.get("license") or content.get("license"):
        metadata["license"] = str(licence)
    if "mean" not in config or "std" not in config:
        return metadata, (*notes, f"{place} gives no mean and std")
    return metadata | preprocess_of(config, place).metadata(), notes


def _classes(
    content: Mapping[str, Any], config: Mapping[str, Any], place: Path
) -> tuple[dict[str, str], tuple[str, ...]]:
    names = content.get("label_names") or config.get("label_names")
    count = content.get("num_classes") or config.get("num_classes")
    if not names:
        return {}, ()
    if not isinstance(names, list) or len(names) != count:
        return {}, (f"{place} has label_names that are no list of {count}, so they are ignored",)
    return {"classes": json.dumps([str(name) for name in names])}, ()


def _read(place: Path) -> dict[str, Any]:
    try:
        content = json.loads(place.read_text())
    except OSError:
        return {}
    except (ValueError, RecursionError):
        raise WeightsError(f"{place}, beside the weights, cannot be read as JSON") from None
    return content if isinstance(content, dict) else {}
