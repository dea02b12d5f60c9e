"""What the files of a run hold, by name and kind: what is read is looked at here, first.

A value of another kind is named; whoever reads decides whether that is the end or a note.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collegium.utils.from_json import fits

Json = dict[str, Any]
LARGEST = 1_000_000
"""Of epochs, classes and the like: what is beyond was not written by a run."""

SUMMARY_KINDS: Mapping[str, Any] = {
    "method": str,
    "split": str,
    "best_epoch": int | None,
    "accuracy_at_best_validation": float | None,
    "parameters": int,
    "changes": list[str],
    "accuracy_last": float,
    "accuracy_best_test": float,
    "ece": float,
    "seconds": float,
    "teacher_seconds": float,
    "images_per_s": float,
    "inference_images_per_s": float,
    "store_hits": float,
}
LINE_KINDS: Mapping[str, Any] = {
    "epoch": int,
    "step": int,
    "split": str,
    "warning": str,
    "skipped": int,
}
_MEASURES = (
    *("accuracy", "loss", "weights_entropy", "weights_variance", "weights_from_uniform", "lr"),
    *("images_per_s", "seconds", "teacher_seconds"),
)
_OF_TEACHERS = (
    "accuracy.",
    "agreement.",
    "accuracy_known.",
    "weights.",
    "loss.",
    "gradient_share.",
)
"""Keys that begin so are numbers, in summary.json and in metrics.jsonl."""
SUMMARY_NEEDS = ("method", "split", "accuracy_last", "seconds", "images_per_s")
TEACHER_KINDS: Mapping[str, Any] = {
    "name": str,
    "spec": str,
    "sha256": str,
    "classes": list[str],
    "mean": list[float],
    "std": list[float],
    "resizing": str,
    "parameters": int,
    "changes": list[str],
    "accuracy": float,
    "images_known": int,
    "accuracy_known": float,
    "labels": Any,
    "hints": list[str],
    "code": dict[str, str],
}
RUN_KINDS: Mapping[str, Any] = {
    "data": str,
    "student": str,
    "teachers": dict[str, str],
    "method": str,
    "options": dict[str, Any],
    "optimisation": dict[str, Any],
    "machine": dict[str, Any],
    "storage": dict[str, Any],
    "seed": int,
    "validation": float,
    "augment": str | None,
    "views": int | None,
    "environment": dict[str, str],
    "identity": dict[str, str],
    "id": str,
    "changes": list[dict[str, Any]],
}
"""Of run.json what a report reads."""
AXES: Mapping[str, Mapping[str, str]] = {
    "weights.npz": {"index": "iN", "labels": "iN", "teachers": "UT", "weights": "fNT"},
    "predictions.npz": {
        "index": "iM",
        "labels": "iM",
        "student": "iM",
        "teachers": "iTM",
        "classes": "UC",
        "heard": "UH",
        "weights": "fMH",
    },
    "examples.npz": {
        "index": "iK",
        "images": "uKDXY",
        "labels": "iK",
        "teachers": "fKTC",
        "student": "fKC",
        "weights": "fKH",
        "rule": "UK",
    },
}
"""Of each array its kind (integers, pixels, floats, texts), then its axes."""


def parse(text: str) -> Any:
    """JSON, in which an object has each of its keys once.

    Raises:
        ValueError: it is no JSON, or a key comes twice.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"it has {twice[:40]!r} twice")
    return found


def wrong(content: Mapping[str, Any], kinds: Mapping[str, Any]) -> Iterator[str]:
    """Keys whose values are of another kind than theirs; unknown keys are nobody's business."""
    for key, value in content.items():
        if key in kinds and not fits(value, kinds[key]):
            yield key


def wrong_in_summary(summary: Mapping[str, Any]) -> list[str]:
    """The same for summary.json, with what is said of each teacher; accuracies are from 0 to 1."""
    found = [*wrong(summary, SUMMARY_KINDS)]
    for key, value in summary.items():
        if key in found or value is None:
            continue
        share = key.startswith(("accuracy", "agreement.")) or key == "ece"
        number = key.startswith(_OF_TEACHERS)
        if (number and not fits(value, float)) or (share and not 0 <= value <= 1):
            found.append(key)
    nothing = (key for key, value in summary.items() if value is None)
    return found + [key for key in nothing if key.startswith(_OF_TEACHERS)]


def is_line(line: Any) -> bool:
    """Whether this is a line of metrics.jsonl."""
    if not isinstance(line, dict) or any(wrong(line, LINE_KINDS)):
        return False
    if not (0 <= line.get("epoch", 0) < LARGEST and 0 <= line.get("step", 0) < 10**12):
        return False
    rest = [v for k, v in line.items() if k in _MEASURES or k.startswith(_OF_TEACHERS)]
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in rest)


def shown(value: Any) -> str:
    """A value that is not as it should be, short."""
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 40 else text[:37] + "...")


def wrong_arrays(part: str, arrays: Mapping[str, Any]) -> str | None:
    """Why arrays are not those of a part of a run, in words; None where they are."""
    sizes: dict[str, int] = {}
    for name, axes in AXES.get(part, {}).items():
        if name not in arrays:
            continue
        array, kind, letters = arrays[name], axes[0], axes[1:]
        if not isinstance(array, np.ndarray):  # bytes, of a member that is no .npy
            return f"{name} is no array"
        if array.ndim != len(letters) or not _is_of(array, kind):
            return f"{name} is {array.dtype} of shape {array.shape}"
        for letter, size in zip(letters, array.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                return f"{name} has shape {array.shape} and others are of another size"
    return None


def _is_of(array: NDArray[Any], kind: str) -> bool:
    if kind == "U":
        return array.dtype.kind == "U"
    if kind == "u":
        return array.dtype == np.uint8 and array.shape[1] in (1, 3) if array.ndim == 4 else False
    if kind == "f":
        return array.dtype.kind == "f" and bool(np.isfinite(array).all())
    if array.dtype.kind not in "iu":
        return False
    return not array.size or (int(array.min()) >= -1 and int(array.max()) < 1 << 40)
