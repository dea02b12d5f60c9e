"""What an audit finds about one teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "not-finite",
    "unsteady",
    "batch-dependent",
    "probabilities",
    "constant",
    "near-chance",
    "permuted-classes",
    "preprocessing",
    "input-size",
    "fresh-network",
    "fresh-head",
    "fresh-statistics",
    "foreign-statistics",
    "below-promise",
    "twin",
    "above-promise",
    "silent-classes",
    "unsettled-statistics",
    "unknown-classes",
    "not-tried",
]

REMEDIES: tuple[Kind, ...] = (
    "permuted-classes",
    "preprocessing",
    "input-size",
    "foreign-statistics",
)
"""What was tried, and helps."""
NOTES: tuple[Kind, ...] = (
    "above-promise",
    "silent-classes",
    "unsettled-statistics",
    "unknown-classes",
    "not-tried",
)
"""What is worth knowing and no sign that something went wrong."""
IDLE: tuple[Kind, ...] = ("silent-classes", "unsettled-statistics")
"""What an alarm explains."""


@dataclass(frozen=True)
class Finding:
    """Something about a teacher that whoever trains should know.

    Attributes:
        teacher: its name.
        kind: what it is.
        text: in words, with what would mend it.
        mended: the accuracy it would have then, 0..1, where that was measured.
    """

    teacher: str
    kind: Kind
    text: str
    mended: float | None = None

    @property
    def alarm(self) -> bool:
        """Whether the teacher looks mis-loaded."""
        return self.kind not in NOTES


def most_likely(findings: Sequence[Finding]) -> list[Finding]:
    """Of several remedies for one teacher the one that helps most; alarms make notes idle."""
    remedies = [finding for finding in findings if finding.kind in REMEDIES]
    best = max(remedies, key=lambda finding: finding.mended or 0.0, default=None)
    kept = [finding for finding in findings if finding.kind not in REMEDIES or finding is best]
    if any(finding.alarm for finding in kept):
        kept = [finding for finding in kept if finding.kind not in IDLE]
    return kept
