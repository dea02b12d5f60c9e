"""One file of stored answers: written whole, checksummed, never changed, mapped into memory.

The file is safetensors: a JSON header that says where each array lies, then the arrays. So it is
read by any tool that knows the format, and any row can be fetched by its byte range from wherever
files are kept. Rows that are absent take no room: a bitmap says which are there.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from collegium.errors import ResourceError
from collegium.store.codecs import AbstractCodec
from collegium.utils.files import is_transient, with_metadata

PRESENT = "present"
_KINDS = {"F32": "<f4", "F16": "<f2", "I8": "|i1", "U8": "|u1", "U16": "<u2", "U32": "<u4"}
_LONGEST_HEADER = 1 << 16

Stamp = tuple[int, int, int]
"""Number, size and time of a file."""


class DamagedShardError(Exception):
    """A shard that is not what was written; says why."""


@dataclass(frozen=True)
class Shard:
    """What a file holds.

    Attributes:
        place: for each row the number of its answer, -1 where it is absent.
        fields: the codec's arrays, mapped from the file.
        error: what the codec lost, at most.
    """

    place: NDArray[np.int32]
    fields: Mapping[str, NDArray[np.generic]]
    error: float


def write_shard(
    path: Path,
    owner: str,
    present: NDArray[np.bool_],
    fields: Mapping[str, NDArray[np.generic]],
    error: float,
) -> None:
    """Write a shard, whole or not at all.

    Args:
        path: where.
        owner: says whose answers these are; the same must be given to read them.
        present: which rows there are.
        fields: the codec's arrays for these rows, in their order.
        error: what the codec lost, at most.

    Raises:
        ResourceError: the disk is full or cannot be written; nothing is left behind.
    """
    arrays = {PRESENT: np.packbits(present), **fields}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    about = {"owner": owner, "error": repr(error)}
    content = with_metadata(save(arrays), about | {"sha256": _digest(arrays, about)})
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        reason = problem.strerror or problem
        raise ResourceError(f"cannot write answers to {path.parent}: {reason}") from None


def _digest(arrays: Mapping[str, NDArray[np.generic]], about: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps([about["owner"], about["error"]]).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def read_shard(path: Path, owner: str, rows: int, codec: AbstractCodec) -> Shard | None:
    """Map a shard and check it; None where there is no file.

    Args:
        path: of the file.
        owner: whose answers are expected.
        rows: how many rows it has, present or not.
        codec: what its fields must look like.

    Raises:
        DamagedShardError: truncated, changed, or of somebody else.
    """
    try:
        with path.open("rb") as file:
            # As a plain array: indexing the subclass takes three times as long.
            mapped = np.asarray(np.memmap(file, np.uint8, mode="r"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:  # an empty file cannot be mapped
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
    """What tells a file from one that replaced it; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _parse(
    mapped: NDArray[np.uint8],
) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """The arrays of a safetensors file where they lie; nothing is trusted before it is checked."""
    try:
        length = int.from_bytes(mapped[:8].tobytes(), "little")
        if not 0 < length <= min(_LONGEST_HEADER, len(mapped) - 8):
            raise DamagedShardError("its header is cut off or absurd")
        header: dict[str, Any] = json.loads(mapped[8 : 8 + length].tobytes())
        about = {str(key): str(value) for key, value in header.pop("__metadata__").items()}
        return {name: _array(mapped[8 + length :], entry) for name, entry in header.items()}, about
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as problem:
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
