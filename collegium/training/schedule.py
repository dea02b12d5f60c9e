"""The learning rate as a pure function of training progress."""

import math


def learning_rate_factor(schedule: str, progress: float) -> float:
    """The factor by which the peak learning rate is multiplied.

    Args:
        schedule: "cosine" (falls from 1 to 0), "step" (falls to 0.1 at progress 1/2 and to 0.01 at
            3/4) or "constant" (stays 1).
        progress: completed steps / total steps, from 0 to 1.

    >>> [learning_rate_factor("step", progress) for progress in (0.0, 0.5, 0.75)]
    [1.0, 0.1, 0.01]
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    return 1.0
