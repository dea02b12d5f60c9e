"""Match the names of tensors in a file with those in a network, whatever wrapper saved them."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collegium.errors import WeightsError
from collegium.utils.text import some

SHOWN = 3
"""How many names of each kind a message lists."""
COMPILED = "_orig_mod."
"""What torch.compile puts into names, anywhere."""
_COMPUTED = (
    "num_batches_tracked position_ids relative_position_index relative_coords_table attn_mask "
    "n_averaged total_ops total_params"
)
COMPUTED = frozenset(_COMPUTED.split())
"""Last parts of names that are counted or computed and not learned; files have them or not."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """Which tensor of a file belongs to which of a network.

    Attributes:
        own: shapes of the network's tensors.
        theirs: shapes of the file's.
        found: names in the network and in the file.
        missing: names in the network without a tensor, learned ones.
        left_out: the same, computed ones.
        wrong: names in the network whose tensor has another shape.
        foreign: names in the file that belong to another architecture.
        unused: names in the file that the network does not need, which is harmless.
        removed: prefix that was removed from the file's names.
        added: prefix that was added to them.
    """

    own: Mapping[str, Shape]
    theirs: Mapping[str, Shape]
    found: Mapping[str, str]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]
    wrong: tuple[str, ...]
    foreign: tuple[str, ...]
    unused: tuple[str, ...]
    removed: str
    added: str

    @property
    def fits(self) -> bool:
        """Whether the network gets all learned tensors, and the file has no further layers."""
        return not (self.missing or self.wrong or self.foreign)

    @property
    def renamed(self) -> dict[str, str]:
        """Names in the network and in the file, where they differ."""
        return {own: name for own, name in self.found.items() if own != name}

    def lines(self) -> list[str]:
        """Notes for the user; none if the names are the same."""
        renamed, lines = self.renamed, []
        if renamed:
            lines.append(f"{len(renamed)} of {len(self.found)} keys renamed: {self._how()}")
        if self.unused:
            lines.append(f"{len(self.unused)} keys of the file not used: {some(self.unused)}")
        if self.left_out:
            count = len(self.left_out)
            lines.append(f"{count} computed keys not in the file: {some(self.left_out)}")
        return lines

    def _how(self) -> str:
        changes = ((self.removed, "removed"), (self.added, "added"))
        if any(prefix for prefix, _ in changes):
            return " and ".join(f"{prefix!r} {how}" for prefix, how in changes if prefix)
        own, theirs = next(iter(self.renamed.items()))
        return f"{theirs} is {own}"

    def refusal(self, source: object) -> WeightsError:
        """The error for a file that does not fit: how many of each kind, and what is nearest."""
        spare = [*self.foreign, *self.unused]
        near = [f"{name}{self._nearest(name, spare)}" for name in self.missing[:SHOWN]]
        wrong = {name: (self.theirs[self.found[name]], self.own[name]) for name in self.wrong}
        parts = {
            "missing": [*near, *self.missing[SHOWN:]],
            "unexpected": spare,
            "wrong shape": [
                f"{n} {size(given)} for {size(own)}" for n, (given, own) in wrong.items()
            ],
        }
        listed = "; ".join(f"{len(v)} {k} ({some(v)})" for k, v in parts.items() if v)
        return WeightsError(f"weights file {source} does not fit the network: {listed}")

    def _nearest(self, missing: str, spare: Sequence[str]) -> str:
        """The spare name most similar to a missing one, of its shape where there is such."""
        same = [other for other in spare if self.theirs.get(other) == self.own[missing]]
        close = difflib.get_close_matches(missing, same or spare, n=1, cutoff=0.6)
        return f", nearest {close[0]}" if close else ""

    def other_head(self) -> int | None:
        """The file's number of classes, where that is all that does not fit; None otherwise.

        All tensors of a wrong shape have their own number of rows, the last layer's, and agree in
        the other axes.
        """
        if not self.wrong or self.missing or self.foreign:
            return None
        pairs = [(self.own[name], self.theirs[self.found[name]]) for name in self.wrong]
        rows = {(mine[:1], given[:1]) for mine, given in pairs}
        if len(rows) > 1 or any(mine[1:] != given[1:] or not mine for mine, given in pairs):
            return None
        return pairs[0][1][0]


@dataclass(frozen=True)
class LoadingReport:
    """How a weights file was loaded into a network.

    Attributes:
        source: the file.
        match: of names; None if the network's library converted those of an older version.
        taken: the part of the file that was read ("state_dict", "model_ema", ...); empty for all.
        ignored: other parts of the file.
    """

    source: str
    match: Match | None
    taken: str = ""
    ignored: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Notes for the user; none if the file had the network's own names."""
        lines = []
        if self.taken:
            rest = f", not {some(self.ignored)}" if self.ignored else ""
            lines.append(f"took {self.taken!r} of {self.source}{rest}")
        if self.match is None:
            library = "keys renamed by the network's library"
            return [*lines, f"{library}: they are those of an older version"]
        return lines + self.match.lines()


def match_keys(own: Mapping[str, Shape], theirs: Mapping[str, Shape], source: str) -> Match:
    """Find the network's tensors in a file, whatever wrapper they were saved from.

    A wrapper adds one prefix to all names. It is found by searching names of the network at the end
    of those in the file, and vice versa.

    A tensor without use is harmless where it stands beside the network: outside of the wrapper, or
    in a part the network does not have (a projector, a second head). One more layer in a part that
    it does have means another architecture.

    Raises:
        WeightsError: two sets of weights in the file fit equally well.
    """
    plain = {name.replace(COMPILED, ""): name for name in theirs}
    if len(plain) < len(theirs):
        raise WeightsError(
            f"weights file {source} has names with and without {COMPILED!r}: keep one of them"
        )
    sizes = {name: theirs[full] for name, full in plain.items()}
    removed, added = _wrapper(own, sizes, source)
    given = {
        added + name.removeprefix(removed): full
        for name, full in plain.items()
        if name.startswith(removed)
    }
    found = {name: given[name] for name in own if name in given}
    absent = [name for name in own if name not in given]
    extra = [name for name in given if name not in own]
    parts = {name.partition(".")[0] for name in own}
    foreign = [n for n in extra if n.partition(".")[0] in parts and not _computed(n)]
    used = {*found.values(), *(given[name] for name in foreign)}
    return Match(
        own,
        theirs,
        found,
        tuple(name for name in absent if not _computed(name)),
        tuple(name for name in absent if _computed(name)),
        tuple(name for name, full in found.items() if theirs[full] != own[name]),
        tuple(foreign),
        tuple(name for name in theirs if name not in used),
        (COMPILED if any(COMPILED in name for name in found.values()) else "") + removed,
        added,
    )


def _computed(name: str) -> bool:
    return name.rpartition(".")[2] in COMPUTED


def _wrapper(own: Mapping[str, Shape], theirs: Mapping[str, Shape], source: str) -> tuple[str, str]:
    """What to take off their names and what to put in front so that most are ours."""
    off = _prefixes(theirs, own)
    on = _prefixes(own, theirs)
    best = max(off.values(), default=0)
    # Bare names in a file whose names begin otherwise: the network has a wrapper of its own.
    if max(on.values(), default=0) > best:
        return "", on.most_common(1)[0][0]
    likely = [prefix for prefix, count in off.items() if count == best]
    if "" in likely or not likely:
        return "", ""
    averaged = [prefix for prefix in likely if "ema" in prefix.lower().replace(".", "_").split("_")]
    if len(averaged or likely) > 1:
        raise WeightsError(
            f"weights file {source} holds {len(likely)} networks that fit, under "
            f"{some(likely)}: keep the names of one of them"
        )
    return (averaged or likely)[0], ""


def _prefixes(longer: Mapping[str, Shape], shorter: Mapping[str, Shape]) -> Counter[str]:
    """What stands in front of names of the second in names of the first, how often."""
    counts: Counter[str] = Counter()
    for name, shape in longer.items():
        for place in (0, *(at + 1 for at, letter in enumerate(name) if letter == ".")):
            if shorter.get(name[place:]) == shape:
                counts[name[:place]] += 1
    return counts


def size(shape: Sequence[int]) -> str:
    """A shape as text."""
    return "x".join(map(str, shape)) or "scalar"
