"""The table of what was tried and survived; exit code 1 if anything was not."""

import argparse
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator

import torch

from scripts.fault_injection.attempt import Tally
from scripts.fault_injection.disk_space import disk
from scripts.fault_injection.fixtures import scene
from scripts.fault_injection.hostile import files
from scripts.fault_injection.kills import kills
from scripts.fault_injection.mishaps import mishaps
from scripts.fault_injection.requests import requests

Part = Callable[[int, random.Random], Iterator[Tally]]
PARTS: dict[str, tuple[Part, int, int]] = {
    "kills": (kills, 20, 300),
    "files": (files, 60, 300),
    "requests": (requests, 100, 1000),
    "disk": (disk, 4, 40),
    "mishaps": (mishaps, 1, 4),
}
"""What is tried, and how often: quickly, and in full."""
SHOWN = 8
"""Failures of a row that are told."""


def run(counts: dict[str, int], seed: int = 0) -> Iterator[Tally]:
    """Try these parts so often, in a folder that is removed afterwards."""
    with scene():
        for part, count in counts.items():
            yield from PARTS[part][0](count, random.Random(f"{seed} {part}"))


def _tell(tally: Tally) -> bool:
    print(tally, flush=True)
    for problem in tally.failed[:SHOWN]:
        print("   ", " ".join(problem.split())[:900], flush=True)
    return bool(tally.failed)


def entry() -> int:
    """What `scripts/faults` calls."""
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--full", action="store_true", help="half an hour instead of minutes")
    parser.add_argument("--count", type=int, help="attempts of each part")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    usual = {part: PARTS[part][2 if options.full else 1] for part in options.part or PARTS}
    counts = {part: options.count or count for part, count in usual.items()}
    started = time.monotonic()
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, torch {torch.__version__}")
    print(f"{'what':<52}{'tried':>7}{'survived':>10}", flush=True)
    failed = [_tell(tally) for tally in run(counts, options.seed)]
    print(f"{time.monotonic() - started:.0f} s", flush=True)
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(entry())
