"""One file of stored teacher outputs: written atomically, checksummed, memory-mapped.

A shard file is never modified; a new file replaces it. The format is safetensors: a JSON header
with the position of each array, then the arrays. Any tool that supports the format can read it, and
a byte range is enough to fetch a row from remote storage. Absent rows take no space: a bitmap marks
the rows that are present.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from collegium.errors import ResourceError
from collegium.store.codecs import AbstractCodec
from collegium.utils.files import is_transient, with_metadata, write_whole

PRESENT = "present"
_KINDS = {"F32": "<f4", "F16": "<f2", "I8": "|i1", "U8": "|u1", "U16": "<u2", "U32": "<u4"}
_LONGEST_HEADER = 1 << 16
_NOT_PARSED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)

Stamp = tuple[int, int, int]
"""Inode number, size and modification time of a file, in ns."""


class DamagedShardError(Exception):
    """A shard differs from what was written; the message gives the reason."""


@dataclass(frozen=True)
class Shard:
    """The content of a shard file.

    Attributes:
        place: for each row its position in the fields, -1 where the row is absent.
        fields: the codec's arrays, memory-mapped from the file.
        error: largest error of the codec.
    """

    place: NDArray[np.int32]
    fields: Mapping[str, NDArray[np.generic]]
    error: float


def empty_shard(rows: int, codec: AbstractCodec) -> Shard:
    """A shard in which every row is absent."""
    fields = {name: np.empty((0, *shape), kind) for name, (kind, shape) in codec.fields.items()}
    return Shard(np.full(rows, -1, np.int32), fields, 0.0)


def write_shard(
    path: Path,
    owner: str,
    present: NDArray[np.bool_],
    fields: Mapping[str, NDArray[np.generic]],
    error: float,
) -> None:
    """Write a shard atomically.

    Args:
        path: of the file.
        owner: identifies teacher, data and views; `read_shard` requires the same value.
        present: whether each row is present.
        fields: the codec's arrays for the present rows, in row order.
        error: largest error of the codec.

    Raises:
        ResourceError: the disk is full or not writable; no partial file remains.
    """
    arrays = {PRESENT: np.packbits(present), **fields}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    about = {"owner": owner, "error": repr(error)}
    content = with_metadata(save(arrays), about | {"sha256": _digest(arrays, about)})
    try:
        write_whole(path, content)
    except OSError as problem:
        reason = problem.strerror or problem
        raise ResourceError(f"cannot write answers to {path.parent}: {reason}") from None


def _digest(arrays: Mapping[str, NDArray[np.generic]], about: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps([about["owner"], about["error"]]).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def read_shard(path: Path, owner: str, rows: int, codec: AbstractCodec) -> Shard:
    """Memory-map a shard and check it; an empty one where the file does not exist.

    Args:
        path: of the file.
        owner: the expected owner, see `write_shard`.
        rows: number of rows, present or absent.
        codec: defines the expected fields.

    Raises:
        DamagedShardError: the file is truncated or changed, or has another owner.
    """
    try:
        with path.open("rb") as file:
            # Convert to a plain array: indexing a memmap takes three times as long.
            mapped = np.asarray(np.memmap(file, np.uint8, mode="r"))
    except FileNotFoundError:
        return empty_shard(rows, codec)
    except (OSError, ValueError) as problem:  # an empty file cannot be memory-mapped
        if isinstance(problem, OSError) and is_transient(problem):
            raise
        raise DamagedShardError(str(problem)) from None
    arrays, about = _parse(mapped)
    if about.get("owner") != owner:
        raise DamagedShardError("it belongs to another teacher or data set")
    present = _present(arrays, rows, codec)
    if about.get("sha256") != _digest(arrays, {"error": "", **about}):
        raise DamagedShardError("its checksum is wrong")
    place = np.where(present, np.cumsum(present) - 1, -1).astype(np.int32)
    fields = {name: array for name, array in arrays.items() if name != PRESENT}
    return Shard(place, fields, float(about["error"]))


def stamp_of(path: Path) -> Stamp | None:
    """Distinguishes a file from its replacement; None where the file does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _parse(
    mapped: NDArray[np.uint8],
) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """The arrays of a safetensors file, not copied, and its metadata; checks every header value."""
    try:
        length = int.from_bytes(mapped[:8].tobytes(), "little")
        if not 0 < length <= min(_LONGEST_HEADER, len(mapped) - 8):
            raise DamagedShardError("its header is cut off or absurd")
        header: dict[str, Any] = json.loads(mapped[8 : 8 + length].tobytes())
        about = {str(key): str(value) for key, value in header.pop("__metadata__").items()}
        return {name: _array(mapped[8 + length :], entry) for name, entry in header.items()}, about
    except _NOT_PARSED as problem:
        raise DamagedShardError(f"its header makes no sense ({problem})") from None


def _array(data: NDArray[np.uint8], entry: Mapping[str, Any]) -> NDArray[np.generic]:
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(data):
        raise DamagedShardError("it is cut off")
    return data[start:end].view(_KINDS[entry["dtype"]]).reshape(entry["shape"])


def _present(
    arrays: Mapping[str, NDArray[np.generic]], rows: int, codec: AbstractCodec
) -> NDArray[np.bool_]:
    bits = arrays.get(PRESENT)
    if bits is None or bits.shape != ((rows + 7) // 8,) or bits.dtype != np.uint8:
        raise DamagedShardError("it does not say which rows it has")
    present = np.unpackbits(bits.astype(np.uint8), count=rows).astype(bool)
    expected = {
        name: (kind, (int(present.sum()), *shape)) for name, (kind, shape) in codec.fields.items()
    }
    found = {name: (a.dtype.str, a.shape) for name, a in arrays.items() if name != PRESENT}
    if found != expected:
        raise DamagedShardError("its arrays are not those that were written")
    return present
