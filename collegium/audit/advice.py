"""The advice of an audit, in words."""

from collections.abc import Iterator, Sequence

from collegium.audit.finding import Finding
from collegium.audit.headroom import Difference, HeadRoom
from collegium.plots.words import listed, percent


def advise(
    teachers: Sequence[str],
    room: HeadRoom | None,
    findings: Sequence[Finding],
    healthy: HeadRoom | None = None,
    known: HeadRoom | None = None,
) -> list[str]:
    """Which teachers to keep, drop or repair, and the most that adaptive weighting could gain.

    Args:
        teachers: names along T of `room` and `known`.
        room: of the teachers with finite logits; None if there are none.
        findings: of all teachers.
        healthy: head-room of those without an alarm, where these are fewer.
        known: head-room over the teachers that know each image's class; None if all know all.
    """
    lines = [_repair(findings)]
    lines += ["No teacher has finite logits."] if room is None else _together(teachers, room)
    if room is not None and len(teachers) > 1:
        lines += [] if known is None else [_known_classes(known)]
        lines += _worth(teachers, known or room)
    if healthy is not None:
        count = len(healthy.single_T)
        who = f"the {count} teachers" if count > 1 else "the only teacher"
        lines.append(f"The mean of {who} without an alarm is right on {percent(healthy.mean)}.")
    return lines


def _repair(findings: Sequence[Finding]) -> str:
    teachers = list(dict.fromkeys(finding.teacher for finding in findings if finding.alarm))
    if not teachers:
        return "No teacher looks mis-loaded."
    they = "they look" if len(teachers) > 1 else "it looks"
    return f"Look first at {listed(teachers)}: {they} mis-loaded."


def _together(teachers: Sequence[str], room: HeadRoom) -> Iterator[str]:
    best = f"{teachers[room.best]}, {percent(room.single_T[room.best])}"
    if len(teachers) == 1:
        yield f"There is one teacher ({best}), so there is nothing to weight."
        return
    yield (
        f"The mean of {len(teachers)} teachers is right on {percent(room.mean)}, "
        f"{_points(room.gain_of_mean)} against the best of them ({best})."
    )
    yield _mixture(room)
    yield _oracle(room)


def _mixture(room: HeadRoom) -> str:
    gain, unclear = room.gain_of_mixture, "no clear difference from"
    how = "better than" if gain.positive else "worse than" if gain.negative else unclear
    return (
        f"The best fixed weights reach {percent(room.mixture)} on these images, on which they "
        f"were chosen. Chosen on one half and measured on the other they reach "
        f"{percent(room.mixture_cross_fitted)}, {_points(gain)} against the mean: "
        f"{how} equal weights."
    )


def _oracle(room: HeadRoom) -> str:
    gain = 100 * room.gain_of_oracle.mean
    most = f"{gain:.2f} points over the mean, the most that adaptive weighting can gain"
    return (
        f"Choosing a right teacher for each image would gain {most if gain > 0 else 'nothing'}; "
        f"no teacher is right on {percent(1 - room.oracle)}."
    )


def _known_classes(room: HeadRoom) -> str:
    return (
        "Counting for each image only the teachers that know its class, as training does "
        f"({room.examples:,} images): their mean is right on {percent(room.mean)}, the best fixed "
        f"weights on {percent(room.mixture)} ({percent(room.mixture_cross_fitted)} chosen on one "
        f"half and measured on the other), at least one teacher on {percent(room.oracle)}."
    )


def _worth(teachers: Sequence[str], room: HeadRoom) -> Iterator[str]:
    """Which teachers change the mean; none is dropped that alone is right on many images."""
    rows = list(zip(teachers, room.worth_T, room.only_T, strict=True))
    worth = [name for name, gap, _ in rows if gap.positive]
    unique = [(name, gap, only) for name, gap, only in rows if gap.negative and only > -gap.mean]
    harmful = [name for name, gap, only in rows if gap.negative and only <= -gap.mean]
    rest = [name for name, gap, _ in rows if not gap.positive and not gap.negative]
    yield from _about("Keep {}: without {} the mean is worse.", worth)
    for name, gap, only in unique:
        yield (
            f"{name} lowers the mean by {-100 * gap.mean:.2f} points, but only it is right on "
            f"{percent(only)}: keep it with weights that differ by example, and leave it out "
            "of a plain mean."
        )
    yield from _about("Better left out of the mean: {}; without {} it is better.", harmful)
    yield from _about("No clear difference to the mean: {}; without {} it is about as good.", rest)


def _about(sentence: str, names: Sequence[str]) -> Iterator[str]:
    """The sentence with the names and their pronoun; nothing without names."""
    if names:
        yield sentence.format(listed(names), "it" if len(names) == 1 else "any of them")


def _points(gap: Difference) -> str:
    return f"{100 * gap.mean:+.2f} ± {100 * gap.half_width:.2f} points"
