"""Label maps: which classes of a teacher correspond to which classes of the student.

    permutation, superset     the map reorders the teacher's logits and drops classes not needed
    subset                    the teacher knows only some of the student's classes
    refinement                several teacher classes form one student class: their masses add up
    coarsening                one teacher class covers several student classes together

Classes are matched once, by name or by a given mapping; the map then applies to every output.
"""

import difflib
import functools
import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from collegium.data.class_names import same_form
from collegium.errors import RequestError, UnknownNameError
from collegium.teachers import wordnet
from collegium.types import UNKNOWN, Head
from collegium.utils.text import some_of

Matches = Mapping[int, tuple[int, ...]]
"""For each used class of a teacher, the corresponding classes of the student."""


@dataclass(frozen=True)
class LabelMap:
    """Maps the classes of a teacher to those of the student.

    Attributes:
        theirs: the teacher's class names, in the order of its logits.
        ours: the student's class names.
        sources: for each group the teacher's classes, whose probability masses add up.
        groups: for each group the student's classes, which the teacher does not distinguish; in the
            order of their first class.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    sources: tuple[tuple[int, ...], ...]
    groups: tuple[tuple[int, ...], ...]

    @cached_property
    def group_of(self) -> tuple[int, ...]:
        """For each student class the first class of its group; -1 for unknown classes."""
        return tuple(-1 if number < 0 else self.groups[number][0] for number in self.numbers)

    @property
    def whole(self) -> bool:
        """Whether the teacher knows and distinguishes all of the student's classes."""
        return len(self.groups) == len(self.ours)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The student's classes that the teacher does not know."""
        places = self.group_of
        return tuple(name for name, place in zip(self.ours, places, strict=True) if place < 0)

    @property
    def unused(self) -> tuple[str, ...]:
        """The teacher's classes that correspond to no student class."""
        used = {place for source in self.sources for place in source}
        return tuple(name for place, name in enumerate(self.theirs) if place not in used)

    @property
    def identity(self) -> str:
        """Identifies this map in a store, so that outputs of different maps are not confused."""
        content = repr((self.sources, self.groups, len(self.theirs)))
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        return f"{len(self.groups)} of {len(self.ours)}: {digest}"

    def groups_by_name(self) -> list[dict[str, list[str]]]:
        """For each group, the names of its classes in the teacher and in the student."""
        pairs = zip(self.sources, self.groups, strict=True)
        return [
            {"theirs": [self.theirs[k] for k in source], "ours": [self.ours[c] for c in group]}
            for source, group in pairs
        ]

    def note(self) -> str:
        """A one-line summary of the classes that the teacher knows."""
        shared = [group for group in self.groups if len(group) > 1]
        together = [" and ".join(self.ours[place] for place in group) for group in shared]
        limits = {
            "does not know": self.unknown,
            "does not tell apart": together,
            "has classes that are not used:": self.unused,
        }
        found = "; ".join(f"{what} {some_of(names)}" for what, names in limits.items() if names)
        known = len(self.ours) - len(self.unknown)
        return f"knows {known} of {len(self.ours)} classes; {found or 'put in their order by name'}"

    def read(self, logits_BK: Float[Tensor, "B K"]) -> Float[Tensor, "B C"]:
        """Convert the teacher's logits to logits of the student's classes.

        If several teacher classes map to one student class, their probability masses add up. If one
        maps to several, its mass is divided evenly among them. Classes that the teacher does not
        know get the logit `UNKNOWN`.
        """
        if all(len(source) == 1 for source in self.sources):
            order_G = _places(tuple(source[0] for source in self.sources), logits_BK.device)
            merged_BG = logits_BK.index_select(1, order_G)
        else:
            parts = [logits_BK[:, list(source)].logsumexp(dim=1) for source in self.sources]
            merged_BG = torch.stack(parts, dim=1)
        if any(self._log_sizes):
            merged_BG = merged_BG - merged_BG.new_tensor(self._log_sizes)
        return self.spread(merged_BG)

    def pack(self, logits_BC: Float[Tensor, "B C"]) -> Float[Tensor, "B G"]:
        """Reduce the result of `read` to one column per group; `spread` restores the rest."""
        if self.whole:
            return logits_BC
        firsts_G = _places(tuple(group[0] for group in self.groups), logits_BC.device)
        return logits_BC.index_select(1, firsts_G)

    def spread(self, packed_BG: Float[Tensor, "B G"]) -> Float[Tensor, "B C"]:
        """The bit-exact inverse of `pack`."""
        if self.whole:
            return packed_BG
        numbers_C = _places(self.numbers, packed_BG.device)
        logits_BC = packed_BG.index_select(1, numbers_C.clamp_min(0))
        return torch.where(numbers_C >= 0, logits_BC, UNKNOWN)

    def own(self, logits_BC: Float[Tensor, "B C"]) -> Float[Tensor, "B G"]:
        """Convert the result of `read` to logits of the groups that the teacher distinguishes."""
        return self.pack(logits_BC) + logits_BC.new_tensor(self._log_sizes)

    @cached_property
    def _log_sizes(self) -> list[float]:
        return [math.log(len(group)) for group in self.groups]

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """For each student class the number of its group; -1 where it has none."""
        found = {place: number for number, group in enumerate(self.groups) for place in group}
        return tuple(found.get(place, -1) for place in range(len(self.ours)))

    @property
    def group_names(self) -> tuple[str, ...]:
        """A name for each group, in the order of `own`."""
        return tuple(" or ".join(self.ours[place] for place in group) for group in self.groups)

    def head(self, head: tuple[Float[Tensor, "K D"], Float[Tensor, " K"]]) -> Head | None:
        """Convert a linear classifier of the teacher's classes to one of the student's.

        Returns:
            None if several teacher classes form one student class: the result is not linear.
        """
        if any(len(source) > 1 for source in self.sources):
            return None
        weight_KD, bias_K = head
        bias_C = self.read(bias_K[None])[0]
        # Dividing a mass evenly changes only the bias.
        sizes_C = self.spread(weight_KD.new_tensor([self._log_sizes]))[0]
        weight_CD = self.read(weight_KD.mT).mT + sizes_C[:, None]
        return torch.where(bias_C[:, None] > UNKNOWN, weight_CD, 0), bias_C


@functools.lru_cache(maxsize=64)
def _places(places: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(places, device=device)


def group_table(maps: Sequence[LabelMap | None], classes: int) -> Int[Tensor, "T C"] | None:
    """`TeacherOutputs.groups_TC` for these maps; None if all teachers distinguish all classes."""
    if all(labels is None or labels.whole for labels in maps):
        return None
    rows = [range(classes) if labels is None else labels.group_of for labels in maps]
    return torch.tensor([list(row) for row in rows])


def match(
    theirs: Sequence[str], ours: Sequence[str], given: Mapping[str, Any] | None = None
) -> LabelMap | None:
    """Match a teacher's classes to the student's; None if they are the same in the same order.

    Args:
        theirs: the teacher's class names, in the order of its logits.
        ours: the student's class names.
        given: a mapping that replaces the comparison of names: for each teacher class one student
            class, several, or None.

    Raises:
        RequestError: no classes correspond, a match is ambiguous, the mapping puts a class into
            several groups, or the teacher distinguishes fewer than two of the student's classes.
        UnknownNameError: the mapping names a class that does not exist.
    """
    theirs, ours = tuple(theirs), tuple(ours)
    if given is None and [*map(same_form, theirs)] == [*map(same_form, ours)]:
        return None
    matches = _by_any_name(theirs, ours) if given is None else _by_mapping(theirs, ours, given)
    if not matches:
        raise RequestError(_nothing_in_common(theirs, ours))
    by_group: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, group in matches.items():
        by_group[tuple(sorted(group))].append(place)
    groups = tuple(sorted(by_group))
    _check_apart(groups, ours)
    return LabelMap(theirs, ours, tuple(tuple(by_group[group]) for group in groups), groups)


def _check_apart(groups: Sequence[tuple[int, ...]], ours: Sequence[str]) -> None:
    places = [place for group in groups for place in group]
    if twice := [ours[place] for place in dict.fromkeys(places) if places.count(place) > 1]:
        raise RequestError(
            f"the mapping puts {some_of(twice)} into several groups of classes; a class may be "
            "in one, with the same others every time"
        )
    if len(groups) < 2:
        names = " and ".join(ours[place] for place in groups[0])
        raise RequestError(
            f"of the student's classes it tells none from another: it knows only {names}, so it "
            "has nothing to teach; at least two are needed"
        )


def _by_mapping(theirs: Sequence[str], ours: Sequence[str], given: Mapping[str, Any]) -> Matches:
    matches = {}
    theirs, ours = [*map(same_form, theirs)], [*map(same_form, ours)]
    for name, target in given.items():
        if same_form(name) not in theirs:
            raise UnknownNameError("class of the teacher", name, theirs)
        names = [] if target is None else [target] if isinstance(target, str) else list(target)
        for one in names:
            if same_form(str(one)) not in ours:
                raise UnknownNameError("class of the student", str(one), ours)
        if names:
            places = (ours.index(same_form(one)) for one in names)
            matches[theirs.index(same_form(name))] = tuple(dict.fromkeys(places))
    return matches


def _by_any_name(theirs: Sequence[str], ours: Sequence[str]) -> Matches:
    """Match by names, also where only one side has WordNet identifiers.

    In that case ImageNet names on the other side are converted to identifiers. If they are not
    ImageNet's names, the identifiers are converted to words.
    """
    if wordnet.are_identifiers(theirs) == wordnet.are_identifiers(ours):
        return _by_name(theirs, ours)
    known, wanted = (wordnet.as_identifiers(names, _aliases) for names in (theirs, ours))
    if known or wanted:
        return _by_name(known or theirs, wanted or ours)
    return _by_name(wordnet.as_words(theirs), wordnet.as_words(ours))


def _by_name(theirs: Sequence[str], ours: Sequence[str]) -> Matches:
    """Match exact names first, then any name of a comma list, ignoring case and separators."""
    matches: Matches = {}
    for spellings in (lambda name: [same_form(name)], _aliases):
        matches = {**matches, **_pairs(theirs, ours, spellings, matches)}
    return matches


def _pairs(
    theirs: Sequence[str],
    ours: Sequence[str],
    spellings: Callable[[str], Sequence[str]],
    done: Matches,
) -> Matches:
    """Pair each teacher class with the one student class that shares a spelling with it."""
    taken = {place for group in done.values() for place in group}
    holders: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(ours):
        for spelling in spellings(name) if place not in taken else ():
            holders[spelling].append(place)
    found: dict[int, tuple[int, ...]] = {}
    for other, name in enumerate(theirs):
        places = {place for spelling in spellings(name) for place in holders.get(spelling, ())}
        if places and other not in done:
            found[other] = tuple(sorted(places))
    for other, group in found.items():
        if len(group) > 1:
            raise _unclear(theirs[other], [ours[place] for place in group])
        rivals = [rival for rival in found if found[rival] == group]
        if len(rivals) > 1:
            raise _unclear(ours[group[0]], [f"{theirs[rival]} (no. {rival})" for rival in rivals])
    return found


def _unclear(name: str, candidates: Sequence[str]) -> RequestError:
    both = " or ".join(repr(candidate) for candidate in candidates[:2])
    return RequestError(f"class {name!r} could be {both}: say which is which by --labels NAME=FILE")


def _aliases(name: str) -> list[str]:
    """The name and the parts of its comma list, in lower case, with spaces between words."""
    name = same_form(name)
    parts = (re.sub(r"[\s_-]+", " ", part).strip().casefold() for part in (name, *name.split(",")))
    return [part for part in dict.fromkeys(parts) if part]


def _nothing_in_common(theirs: Sequence[str], ours: Sequence[str]) -> str:
    near = [(name, difflib.get_close_matches(name, theirs, n=1, cutoff=0.6)) for name in ours]
    pairs = [f"{found[0]!r} for {name!r}" for name, found in near if found][:3]
    hint = f"nearest: {', '.join(pairs)}; " if pairs else ""
    if wordnet.are_identifiers(ours) and not wordnet.synsets():
        hint += f"{wordnet.MISSING}, or "
    return (
        f"its {len(theirs)} classes ({some_of(theirs, 3)}) and the data's {len(ours)} "
        f"({some_of(ours, 3)}) have no name in common; {hint}say which is which by "
        "--labels NAME=FILE"
    )
