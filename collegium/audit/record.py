"""The files an audit leaves: audit.json, audit.md, audit.html."""

import json
import math
from pathlib import Path
from typing import Any

from collegium.audit.page import page
from collegium.audit.tables import markdown
from collegium.errors import FolderError
from collegium.utils.files import reporting_writes, write_whole

FILES = ("audit.json", "audit.md", "audit.html")


def check_folder(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds an audit already; called before anything is measured.

    Raises:
        FolderError: it holds one, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise FolderError(f"{out} is a file; --out names a folder")
    if not overwrite and any((out / name).exists() for name in FILES):
        raise FolderError(f"{out} holds an audit already; choose another --out, or --overwrite")


def write_audit(out: Path, found: dict[str, Any]) -> None:
    """Write all three files, each whole or not at all.

    Raises:
        FolderError: the folder cannot be written.
    """
    text = json.dumps(found, indent=2) + "\n"
    contents = zip(FILES, (text, markdown(found), page(found)), strict=True)
    with reporting_writes(f"to {out}"):
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents:
            write_whole(out / name, content.encode())


def without_nan(value: Any) -> Any:
    """A copy with None in place of NaN and infinities, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
