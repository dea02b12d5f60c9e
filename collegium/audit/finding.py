"""A finding of the audit about one teacher."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Remedied = Literal["permuted-classes", "preprocessing", "input-size", "foreign-statistics"]
"""Kinds of a change that was tried and raises the accuracy."""
Idle = Literal["silent-classes", "unsettled-statistics"]
"""Kinds that are left out if the teacher has an alarm, which explains them."""
Note = Literal[Idle, "above-promise", "unknown-classes", "not-tried"]
"""Kinds that are worth knowing but do not mean that something went wrong."""
Broken = Literal["fresh-network", "fresh-head", "fresh-statistics", "unsteady", "batch-dependent"]
"""Kinds of a cause in the network itself, which no other preprocessing removes."""
Poor = Literal["not-finite", "probabilities", "constant", "near-chance", "below-promise", "twin"]
"""Kinds of wrong outputs whose cause is unknown, or that no change of the images removes."""
Kind = Literal[Broken, Poor, Remedied, Note]

BROKEN: tuple[Kind, ...] = get_args(Broken)
REMEDIES: tuple[Kind, ...] = get_args(Remedied)
IDLE: tuple[Kind, ...] = get_args(Idle)
NOTES: tuple[Kind, ...] = get_args(Note)


@dataclass(frozen=True)
class Finding:
    """Something about a teacher that its user should know.

    Attributes:
        kind: of the finding.
        text: the finding as a sentence, with a remedy where one is known.
        mended: the accuracy with the remedy, 0..1, where that was measured.
        teacher: its name; the checks of a single teacher leave it out.
    """

    kind: Kind
    text: str
    mended: float | None = None
    teacher: str = ""

    @property
    def alarm(self) -> bool:
        """Whether the teacher looks mis-loaded."""
        return self.kind not in NOTES

    def to_json(self) -> dict[str, Any]:
        """The finding as audit.json has it: its fields, and `alarm`."""
        return {"teacher": self.teacher, **asdict(self), "alarm": self.alarm}


def most_likely(findings: Sequence[Finding]) -> list[Finding]:
    """Keep the remedy that helps most, and no `IDLE` findings beside an alarm."""
    remedies = [finding for finding in findings if finding.kind in REMEDIES]
    best = max(remedies, key=lambda finding: finding.mended or 0.0, default=None)
    kept = [finding for finding in findings if finding.kind not in REMEDIES or finding is best]
    left_out = IDLE if any(finding.alarm for finding in kept) else ()
    return [finding for finding in kept if finding.kind not in left_out]
