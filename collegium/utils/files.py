"""Atomic writing of files, their digests, and their manifests."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from collegium.errors import FolderError

_ALWAYS, _GAIN = 1 << 28, 100
"""Bytes that may always be unpacked; how much larger than packed more may be."""
_LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM)


def is_transient(error: OSError) -> bool:
    """Whether reading failed for a cause outside the file, which may be intact."""
    return error.errno in _LACKING


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is the old one or the new one, never half of it.

    Raises:
        OSError: it could not be written; the old one is there and nothing else is left.
    """
    # Processes of several machines may have the same number.
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")
    try:
        write_through(temporary, content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


@contextlib.contextmanager
def reporting_writes(place: object) -> Iterator[None]:
    """A context in which an error of the system is reported in one line.

    Args:
        place: what cannot be written, or "to FOLDER".

    Raises:
        FolderError: something could not be written.
    """
    try:
        yield
    except OSError as error:
        raise FolderError(f"cannot write {place}: {error.strerror}") from None


def write_through(path: Path, content: bytes, mode: Literal["wb", "ab"] = "wb") -> None:
    """Write or append bytes that are on the disk, not only on their way, when this returns."""
    with path.open(mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Bring names that were made, changed or removed in a folder onto the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def zip_bomb_reason(path: Path) -> str | None:
    """Why an archive must not be unpacked: it would become far larger; None if it may."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked <= max(_ALWAYS, _GAIN * path.stat().st_size):
        return None
    return f"it would be {unpacked:,} bytes once unpacked, far more than it is now"


MANIFEST = "manifest.json"
"""In a finished run's folder: whose it is, and SHA-256 of the files it wrote."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def strayed(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """Files of a finished run that are not what it wrote, such as another run's.

    Args:
        folder: of the run.
        names: which to check; all for None. Files that the manifest does not name are ignored.
    """
    files = _manifest(folder).get("files")
    digests = files if isinstance(files, dict) else {}
    wanted = digests if names is None else [name for name in names if name in digests]
    there = [name for name in wanted if Path(name).name == name and (folder / name).is_file()]
    return [name for name in there if file_digest(folder / name) != digests[name]]


def owner_of(folder: Path) -> str | None:
    """Identity of the run that wrote the files of a folder; None if it is unknown."""
    owner = _manifest(folder).get("run")
    return owner if isinstance(owner, str) else None


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return json_object((folder / MANIFEST).read_text()) or {}
    except (OSError, ValueError):
        return {}


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object in a text; None if there is none.

    >>> json_object('{"a": 1}'), json_object("[]"), json_object("{")
    ({'a': 1}, None, None)
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """Put metadata into a safetensors file in a fixed order.

    The library writes them in an order that changes from process to process, and the same training
    must leave the same bytes.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(content[8:end])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns its data
    return len(text).to_bytes(8, "little") + text + content[end:]
