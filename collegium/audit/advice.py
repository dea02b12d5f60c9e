"""What an audit advises, in words."""

from collections.abc import Iterator, Sequence

from collegium.audit.finding import Finding
from collegium.audit.headroom import Difference, HeadRoom


def advise(
    names: Sequence[str],
    room: HeadRoom | None,
    findings: Sequence[Finding],
    sound: HeadRoom | None = None,
) -> list[str]:
    """Who is worth having, what adaptive weighting could gain at most, whom to drop, what to mend.

    Args:
        names: of the teachers whose head-room it is, in its order.
        room: of those that can be heard; None if there are none.
        findings: of all teachers.
        sound: head-room of those without an alarm, where these are fewer.
    """
    heard = ["There is nobody to be heard."] if room is None else _committee(names, room)
    lines = [*_mend(findings), *heard]
    if sound is not None:
        count = len(sound.single_T)
        who = f"the {count} that look sound" if count > 1 else "the only one that looks sound"
        lines.append(f"The mean of {who} is right on {_percent(sound.mean)}.")
    return lines


def _mend(findings: Sequence[Finding]) -> Iterator[str]:
    alarms = [finding for finding in findings if finding.alarm]
    teachers = list(dict.fromkeys(finding.teacher for finding in alarms))
    if teachers:
        yield (
            f"Look first at {_list(teachers)}: they look mis-loaded."
            if len(teachers) > 1
            else (f"Look first at {teachers[0]}: it looks mis-loaded.")
        )
    else:
        yield "No teacher looks mis-loaded."


def _committee(names: Sequence[str], room: HeadRoom) -> Iterator[str]:
    best = f"{names[room.best]}, {_percent(room.single_T[room.best])}"
    if len(names) == 1:
        yield f"One teacher can be heard ({best}): there is nothing to weigh."
        return
    yield (
        f"The mean of {len(names)} teachers is right on {_percent(room.mean)}, "
        f"{_points(room.gain_of_mean)} against the best of them ({best})."
    )
    yield (
        f"One fixed set of weights reaches {_percent(room.mixture)} "
        f"({_points(room.gain_of_mixture)} against the mean). Hearing for every example a teacher "
        f"that is right would gain {100 * room.gain_of_oracle.mean:.2f} points: the most that "
        f"adaptive weighting can hope for; on {_percent(1 - room.oracle)} nobody is right."
    )
    yield from _worth(names, room)


def _worth(names: Sequence[str], room: HeadRoom) -> Iterator[str]:
    pairs = list(zip(names, room.worth_T, strict=True))
    worth = [name for name, gap in pairs if gap.positive]
    harmful = [name for name, gap in pairs if gap.mean < -gap.half_width]
    rest = [name for name, _ in pairs if name not in (*worth, *harmful)]
    if worth:
        yield f"Worth having in the mean: {_list(worth)}; without each of them it is worse."
    if harmful:
        yield f"Better left out of the mean, or weighed down: {_list(harmful)}."
    if rest:
        yield f"Makes no difference to the mean that could be told here: {_list(rest)}."


def _points(gap: Difference) -> str:
    return f"{100 * gap.mean:+.2f} ± {100 * gap.half_width:.2f} points"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
