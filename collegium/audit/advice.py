"""What an audit advises, in words."""

from collections.abc import Iterator, Sequence

from collegium.audit.finding import Finding
from collegium.audit.headroom import Difference, HeadRoom


def advise(
    teachers: Sequence[str],
    room: HeadRoom | None,
    findings: Sequence[Finding],
    sound: HeadRoom | None = None,
    known_mask: HeadRoom | None = None,
) -> list[str]:
    """Who is worth having, what adaptive weighting could gain at most, whom to drop, what to fix.

    Args:
        teachers: names along T of `room` and `known_mask`.
        room: of the teachers with finite logits; None if there are none.
        findings: of all teachers.
        sound: head-room of those without an alarm, where these are fewer.
        known_mask: head-room over the teachers that know each image's class; None if all know all.
    """
    lines = [*_fix(findings)]
    lines += ["No teacher has finite logits."] if room is None else _together(teachers, room)
    if room is not None and len(teachers) > 1:
        lines += [] if known_mask is None else _knowing(known_mask)
        lines += _worth(teachers, room if known_mask is None else known_mask)
    if sound is not None:
        count = len(sound.single_T)
        who = f"the {count} that look sound" if count > 1 else "the only one that looks sound"
        lines.append(f"The mean of {who} is right on {_percent(sound.mean)}.")
    return lines


def _fix(findings: Sequence[Finding]) -> Iterator[str]:
    alarms = [finding for finding in findings if finding.alarm]
    teachers = list(dict.fromkeys(finding.teacher for finding in alarms))
    if teachers:
        yield (
            f"Look first at {names(teachers)}: they look mis-loaded."
            if len(teachers) > 1
            else (f"Look first at {teachers[0]}: it looks mis-loaded.")
        )
    else:
        yield "No teacher looks mis-loaded."


def _together(teachers: Sequence[str], room: HeadRoom) -> Iterator[str]:
    best = f"{teachers[room.best]}, {_percent(room.single_T[room.best])}"
    if len(teachers) == 1:
        yield f"There is one teacher ({best}), so there is nothing to weight."
        return
    yield (
        f"The mean of {len(teachers)} teachers is right on {_percent(room.mean)}, "
        f"{_points(room.gain_of_mean)} against the best of them ({best})."
    )
    yield from _mixture(room)
    yield from _oracle(room)


def _mixture(room: HeadRoom) -> Iterator[str]:
    verdict = "better than equal weights" if room.gain_of_mixture.positive else ""
    verdict = "worse than equal weights" if room.gain_of_mixture.negative else verdict
    yield (
        f"The best fixed weights reach {_percent(room.mixture)} on these images, on which they "
        f"were chosen. Chosen on one half and measured on the other they reach "
        f"{_percent(room.mixture_cross_fitted)}, {_points(room.gain_of_mixture)} against the mean: "
        f"{verdict or 'no clear difference from equal weights'}."
    )


def _oracle(room: HeadRoom) -> Iterator[str]:
    gain = 100 * room.gain_of_oracle.mean
    nobody = f"no teacher is right on {_percent(1 - room.oracle)}"
    if gain > 0:
        yield (
            f"Choosing for every image a teacher that is right would gain {gain:.2f} points over "
            f"the mean: the most that adaptive weighting can gain; {nobody}."
        )
    else:
        yield (
            "Choosing for every image a teacher that is right gains nothing over the mean, so "
            f"adaptive weighting has nothing to gain; {nobody}."
        )


def _knowing(room: HeadRoom) -> Iterator[str]:
    yield (
        f"Counting for each image only the teachers that know its class, as training does "
        f"({room.examples:,} images): their mean is right on {_percent(room.mean)}, the best fixed "
        f"weights on {_percent(room.mixture)} ({_percent(room.mixture_cross_fitted)} chosen on "
        f"one half and measured on the other), at least one teacher on {_percent(room.oracle)}."
    )


def _worth(teachers: Sequence[str], room: HeadRoom) -> Iterator[str]:
    """Who changes the mean; nobody is to be left out that alone is right on images enough."""
    rows = list(zip(teachers, room.worth_T, room.only_T, strict=True))
    worth = [name for name, gap, _ in rows if gap.positive]
    harmful = [(name, gap, only) for name, gap, only in rows if gap.negative]
    unique = [name for name, gap, only in harmful if only > -gap.mean]
    useless = [name for name, gap, only in harmful if only <= -gap.mean]
    if worth:
        them = "it" if len(worth) == 1 else "any of them"
        yield f"Keep {names(worth)}: without {them} the mean is worse."
    for name, gap, only in harmful:
        if name in unique:
            yield (
                f"{name} lowers the mean by {-100 * gap.mean:.2f} points, but only it is right on "
                f"{_percent(only)}: keep it with weights that differ by example, and leave it out "
                "of a plain mean."
            )
    if useless:
        them = "it" if len(useless) == 1 else "any of them"
        yield f"Better left out of the mean: {names(useless)}; without {them} it is better."
    rest = [name for name, gap, _ in rows if not gap.positive and not gap.negative]
    if rest:
        them = "it" if len(rest) == 1 else "any of them"
        yield f"No clear difference to the mean: {names(rest)}; without {them} it is about as good."


def _points(gap: Difference) -> str:
    return f"{100 * gap.mean:+.2f} ± {100 * gap.half_width:.2f} points"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def names(several: Sequence[str], shown: int = 8) -> str:
    """A list in words, cut where it is long.

    >>> names(["a", "b", "c"]), names(["a", "b", "c", "d"], shown=2)
    ('a, b and c', 'a, b and 2 more')
    """
    if len(several) > shown + 1:
        return f"{', '.join(several[:shown])} and {len(several) - shown} more"
    return " and ".join([", ".join(several[:-1]), several[-1]] if len(several) > 1 else several)
