"""What a teacher's answers alone tell of how it was loaded."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from collegium.audit.ensemble import halves
from collegium.audit.finding import Finding
from collegium.audit.headroom import Z_95, difference
from collegium.evaluation.predict import Predictions

SURE = 3.0 / Z_95
"""An interval has to be this much wider before an alarm rests on it: three deviations."""
LEAST = 0.02
"""Smaller changes of an accuracy raise no alarm."""
SILENT = 10
"""Examples a class must have before never hearing its name means something."""
KNOWN = 0.7
"""Part of what its logits tell that a teacher whose head fits says at least."""
CERTAIN = 0.95
"""Nothing can be said of teachers where guessing may reach this."""
SHOWN = 5
"""Classes that are listed."""
FEW = 20
"""On fewer images accuracy tells nothing of how a teacher was loaded."""


def examine_answers(name: str, said: Predictions, classes: Sequence[str]) -> Iterator[Finding]:
    """Alarms and notes on one teacher's answers.

    Args:
        name: of the teacher.
        said: its logits; not all need be finite.
        classes: names, in the order of the labels.
    """
    finite_N = said.finite_N
    if not finite_N.all():
        yield _not_finite(name, finite_N)
        return
    if _are_probabilities(said.logits_NC):
        text = "gives probabilities, not logits: take the softmax off its end, or give their log"
        yield Finding(name, "probabilities", text)
    if len(said.labels_N) < FEW:
        return
    if _are_shares(said.logits_NC):
        text = "gives only values in 0..1, as after a sigmoid: logits are needed"
        yield Finding(name, "probabilities", text)
    share, place = _favourite(said)
    if share >= 0.99 and _largest(said.labels_N, len(classes)) < 0.9:
        text = f"says {classes[place]!r} of {_percent(share)} of all images, whatever they show"
        yield Finding(name, "constant", text)
        return
    order = permutation(said, classes)
    if order is not None:
        yield Finding(name, "permuted-classes", order[0], order[1])
    elif (chance := near_chance(said, len(classes))) is not None:
        yield Finding(name, "near-chance", _near_chance_text(said, chance))
    if silent := _silent(said, len(classes)):
        yield Finding(name, "silent-classes", _silent_text(said, silent, classes))


def _not_finite(name: str, finite_N: Bool[Tensor, " N"]) -> Finding:
    count = int((~finite_N).sum())
    text = (
        f"gives NaN or infinite logits for {count:,} of {len(finite_N):,} images: damaged weights, "
        "or numbers too large for its precision (try --precision 32)"
    )
    return Finding(name, "not-finite", text)


def _are_probabilities(logits_NC: Float[Tensor, "N C"]) -> bool:
    sums_N = logits_NC.sum(dim=1)
    return bool((logits_NC >= 0).all() and (sums_N - 1).abs().max() < 1e-3)


def _are_shares(logits_NC: Float[Tensor, "N C"]) -> bool:
    inside = bool((logits_NC >= 0).all() and (logits_NC <= 1).all())
    return inside and not _are_probabilities(logits_NC) and bool(logits_NC.std() > 1e-3)


def _favourite(said: Predictions) -> tuple[float, int]:
    """Share and place of the class that is said most often."""
    counts_C = torch.bincount(said.classes_N)
    return int(counts_C.max()) / len(said.classes_N), int(counts_C.argmax())


def _largest(labels_N: Int[Tensor, " N"], classes: int) -> float:
    return int(torch.bincount(labels_N, minlength=classes).max()) / len(labels_N)


def near_chance(said: Predictions, classes: int) -> float | None:
    """What guessing would give, where the teacher's accuracy cannot be told from it."""
    chance = max(1 / classes, _largest(said.labels_N, classes))
    doubt = 3 * float(np.sqrt(chance * (1 - chance) / len(said.labels_N)))
    # Features drawn at random tell the classes apart a little, too.
    luck = min(chance / 2, (1 - chance) / 10)
    bound = chance + luck + doubt
    return chance if said.accuracy <= bound and bound < CERTAIN else None


def _near_chance_text(said: Predictions, chance: float) -> str:
    read, base = readout(said), _percent(chance)
    doubt = 3 * float(np.sqrt(chance * (1 - chance) / len(said.labels_N)))
    how = "less often than" if said.accuracy < chance - doubt else "about as often as"
    text = f"is right on {_percent(said.accuracy)}, {how} guessing would be ({base})"
    if read > chance + 0.5 * (1 - chance):
        return text + (
            f"; yet a linear map of its logits is right on {_percent(read)}: its features know "
            "the classes, so look at its last layer, its sign, and the order of its classes"
        )
    return text + ": are its weights loaded, and are they for these data?"


def says_too_little(said: Predictions) -> bool:
    """Whether its logits tell the classes far better than the class it says does."""
    if len(said.labels_N) < FEW or not said.finite_N.all():
        return False
    guesses = near_chance(said, said.logits_NC.shape[1]) is not None
    return guesses or said.accuracy < KNOWN * readout(said)


def readout(said: Predictions) -> float:
    """Accuracy of the best linear map from logits to classes, cross-fitted in halves, 0..1."""
    logits_NC = said.logits_NC.double()
    scaled_NC = (logits_NC - logits_NC.mean(dim=0)) / logits_NC.std(dim=0).clamp_min(1e-9)
    features_NP = torch.cat([scaled_NC, torch.ones(len(scaled_NC), 1, dtype=torch.float64)], 1)
    target_NC = torch.nn.functional.one_hot(said.labels_N, logits_NC.shape[1]).double()

    def right(rows: Tensor, others: Tensor) -> Tensor:
        known_MP = features_NP[others]
        ridge_PP = known_MP.mT @ known_MP + torch.eye(known_MP.shape[1])
        map_PC = torch.linalg.solve(ridge_PP, known_MP.mT @ target_NC[others])
        return (features_NP[rows] @ map_PC).argmax(dim=1) == said.labels_N[rows]

    return halves(right, len(said.labels_N)).double().mean().item()


def permutation(said: Predictions, classes: Sequence[str]) -> tuple[str, float] | None:
    """How the teacher's classes seem to be permuted, in words, and the accuracy that would give.

    The assignment with most right answers is found on one half of the examples and measured on the
    other, and the reverse, so that chance does not look like a permutation.
    """
    count = len(classes)
    right_N = said.classes_N == said.labels_N

    def right(rows: Tensor, others: Tensor) -> Tensor:
        order_C = _assignment(said.classes_N[others], said.labels_N[others], count)
        return order_C[said.classes_N[rows]] == said.labels_N[rows]

    mended_N = halves(right, len(right_N))
    gain = difference(mended_N, right_N)
    order_C = _assignment(said.classes_N, said.labels_N, count)
    moved_N = (order_C.argsort() != torch.arange(count))[said.labels_N]
    if gain.mean < LEAST or gain.mean < SURE * gain.half_width or not moved_N.any():
        return None
    before, after = (part[moved_N].double().mean().item() for part in (right_N, mended_N))
    # A weak teacher that confuses two classes is not one whose classes are exchanged.
    if after < max(2 * before, 2 / count):
        return None
    accuracy = mended_N.double().mean().item()
    if accuracy < KNOWN * readout(said):  # any order helps a head that was never trained
        return None
    text = (
        f"its classes seem to be in another order: {describe_order(order_C.tolist(), classes)}; in "
        f"the data's order it would be right on {_percent(accuracy)} instead of "
        f"{_percent(said.accuracy)}"
    )
    return text, accuracy


def _assignment(
    classes_N: Int[Tensor, " N"], labels_N: Int[Tensor, " N"], count: int
) -> Int[Tensor, " C"]:
    """For each class that is said, the class that is meant; ties go to the class itself."""
    places_N = classes_N * count + labels_N
    hits_CC = torch.bincount(places_N, minlength=count * count).view(count, count).double()
    hits_CC += 0.5 * torch.eye(count)
    meant = linear_sum_assignment(hits_CC.numpy(), maximize=True)[1]
    return torch.from_numpy(meant)


def describe_order(order: Sequence[int], classes: Sequence[str]) -> str:
    """A permutation in words.

    Args:
        order: for each place in the teacher's logits, the place in the data's classes.
        classes: names of the data's classes.

    >>> describe_order([0, 2, 1], ["ant", "cat", "bee"])
    'alphabetical'
    >>> describe_order([2, 0, 1], ["ant", "cat", "bee"])
    'shifted by 1'
    >>> describe_order([0, 2, 1, 3], ["d", "c", "b", "a"])
    'it says c for b, b for c'
    """
    count = len(order)
    shift = (order[1] - 1) % count if count > 1 else 0
    known = {
        "alphabetical": [list(classes).index(name) for name in sorted(classes)],
        "reversed": list(range(count))[::-1],
        f"shifted by {min(shift, count - shift)}": [(k + shift) % count for k in range(count)],
    }
    for words, wanted in known.items():
        if list(order) == wanted:
            return words
    moved = [(classes[k], classes[meant]) for k, meant in enumerate(order) if k != meant]
    more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    return "it says " + ", ".join(f"{said} for {meant}" for said, meant in moved[:SHOWN]) + more


def _silent(said: Predictions, count: int) -> list[int]:
    """Classes it never names although there are enough examples of them."""
    there_C = torch.bincount(said.labels_N, minlength=count) >= SILENT
    never_C = torch.bincount(said.classes_N, minlength=count) == 0
    return (there_C & never_C).nonzero()[:, 0].tolist()


def _silent_text(said: Predictions, silent: Sequence[int], classes: Sequence[str]) -> str:
    spoken_N = ~torch.isin(said.labels_N, torch.tensor(silent))
    names = ", ".join(classes[place] for place in silent[:SHOWN])
    more = f" and {len(silent) - SHOWN} more" if len(silent) > SHOWN else ""
    right = (said.classes_N == said.labels_N)[spoken_N].double().mean().item()
    return (
        f"never says {names}{more}; on the other classes it is right on {_percent(right)}: "
        "a specialist?"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def compare_with_promise(name: str, said: Predictions, promised: float | None) -> Iterator[Finding]:
    """Whether a teacher is as good as its weights file states.

    Args:
        name: of the teacher.
        said: its logits, on images whose class it knows.
        promised: the accuracy stated for these data, 0..1.
    """
    if promised is None or len(said.labels_N) < FEW:
        return
    gap = said.accuracy - promised
    doubt = 3 * float(np.sqrt(promised * (1 - promised) / len(said.labels_N)))
    stated = f"its weights file states {_percent(promised)} and it has {_percent(said.accuracy)}"
    if gap < -max(LEAST, doubt):
        text = f"{stated}: not loaded as it was trained, or for other data"
        yield Finding(name, "below-promise", text, promised)
    if gap > max(LEAST, doubt):
        text = (
            f"{stated}: it was probably trained on these images, so its numbers here say little; "
            "have it measured on images it has not seen"
        )
        yield Finding(name, "above-promise", text)


def find_duplicates(
    said: Mapping[str, Predictions], hashes: Mapping[str, str]
) -> Iterator[Finding]:
    """Teachers that are one and the same; the first of them is left in peace.

    Args:
        said: finite logits by name.
        hashes: SHA-256 of the weights by name.
    """
    for place, name in enumerate(said):
        for other in list(said)[:place]:
            one_NC, other_NC = said[name].logits_NC, said[other].logits_NC
            same = (one_NC - other_NC).abs().max() < 1e-3 * one_NC.std().clamp_min(1e-12)
            if same or hashes[name] == hashes[other]:
                shared = "has the very weights of" if hashes[name] == hashes[other] else "says what"
                text = f"{shared} {other}{'' if 'very' in shared else ' says, always'}: drop one"
                yield Finding(name, "twin", text)
                break
