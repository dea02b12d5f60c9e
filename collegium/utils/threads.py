"""How many CPU threads a command computes with."""

WORK_PER_THREAD = 500_000_000
"""Multiply-adds of a step for each thread: about 10 ms of one AVX2 core.

With less work a thread waits for the others longer than it computes. This costs little on an idle
machine, and much on a busy one: there all threads wait until the last of them gets a core.
"""
TORCHS_NUMBER = 0
"""In place of a number of threads: as many as torch takes."""
FORWARD_AND_BACKWARD = 3
"""Multiply-adds of a training step, as a multiple of those of its forward pass."""


def choose_threads(work: int, most: int) -> int:
    """The number of threads for some work: a pure function, since rounding depends on the number.

    Args:
        work: multiply-adds of one step; 0 where they cannot be counted.
        most: threads that the process may use, at least 1.

    Returns:
        1 to `most`: one for each `WORK_PER_THREAD`; `most` where the work is unknown.

    >>> choose_threads(30_000_000, most=2), choose_threads(15_000_000_000, most=2)
    (1, 2)
    """
    return max(1, min(most, work // WORK_PER_THREAD)) if work else most
