"""The learning rate as a pure function of how far the training is."""

import math


def learning_rate_factor(schedule: str, progress: float) -> float:
    """What the peak learning rate is multiplied by.

    Args:
        schedule: "cosine" falls from 1 to 0, "step" to 0.1 at 1/2 and 0.01 at 3/4, "constant".
        progress: steps done / steps in all, 0 to 1.

    >>> [learning_rate_factor("step", progress) for progress in (0.0, 0.5, 0.75)]
    [1.0, 0.1, 0.01]
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    return 1.0
