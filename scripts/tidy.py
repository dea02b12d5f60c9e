"""Refuse what must never be committed: paths of a machine, registry hosts, secrets, data."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 300_000
"""Bytes; nothing written by hand is larger."""
SKIPPED = {"__pycache__", "runs", "build", "dist"}
"""Folders that are never committed, for a checkout without git."""
# Each pattern is written so that this file does not match itself.
FORBIDDEN = {
    "a path of a machine": r"(?<![\w.])/(?:home|root|Users|wor[k]|tm[p])/\w|\b[A-Z]:\\Users\\",
    "a registry host": r"pypi[.]org|pythonhosted[.]org|download[.]pytorch[.]org|registry[.]npmjs",
    "a private key": r"BEGIN [A-Z ]*PRIVATE KEY",
    "a token": r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{36}|github_pat_\w{22}|hf_[A-Za-z]{34}|pypi-AgE\w",
}


def main() -> int:
    """Look through every file git knows or would add; give 1 where something was found."""
    found = [f"{path.relative_to(ROOT)}: {what}" for path in files() for what in complaints(path)]
    print("\n".join(found) or "tidy: nothing found that must not be committed")
    return 1 if found else 0


def files() -> Iterable[Path]:
    """The files of the checkout; without git, all but hidden ones and what is made."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return list(_walk(ROOT))
    names = (ROOT / name for name in done.stdout.split("\0") if name)
    return [path for path in names if path.is_file()]


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif path.name not in SKIPPED and not path.name.startswith("."):
            yield from _walk(path)


def complaints(path: Path) -> list[str]:
    """What is wrong with one file."""
    if path.stat().st_size > LARGEST:
        return [f"larger than {LARGEST} bytes; data are never committed"]
    text = path.read_text(encoding="utf-8", errors="ignore")
    return [
        f"{what}: {match.group()!r}"
        for what, pattern in FORBIDDEN.items()
        for match in re.finditer(pattern, text)
    ]


if __name__ == "__main__":
    sys.exit(main())
