"""The battery of kills, hostile files, odd requests and full disks, a little of it."""

import pytest

from scripts.fault_injection.__main__ import PARTS, run
from scripts.fault_injection.attempt import Tally


def survived(counts: dict[str, int]) -> list[Tally]:
    tallies = list(run(counts))
    assert not [problem for tally in tallies for problem in tally.failed]
    return tallies


def test_a_little_of_everything_is_survived() -> None:
    counts = {"kills": 1, "files": 3, "requests": 9}
    assert sum(tally.tried for tally in survived(counts)) >= sum(counts.values())


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_some_of_it_is_survived(part: str, all_digits) -> None:
    _, quickly, _ = PARTS[part]
    assert sum(tally.tried for tally in survived({part: quickly})) >= quickly
