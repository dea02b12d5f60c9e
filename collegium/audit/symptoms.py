"""Signs of a wrong load in the outputs of a teacher."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from collegium.audit.change import LEAST, Change
from collegium.audit.ensemble import halves
from collegium.audit.finding import Finding
from collegium.evaluation.metrics import correct, share
from collegium.evaluation.predict import Predictions
from collegium.plots.words import listed, percent
from collegium.utils.text import some_of

SILENT = 10
"""Fewest examples of a class for which never predicting it counts."""
KNOWN = 0.7
"""A teacher is suspect below this part of the accuracy of a linear map of its logits."""
CERTAIN = 0.95
"""No verdict where guessing may reach this accuracy."""
SHOWN = 5
"""Most classes that a message lists."""
FEW = 20
"""On fewer images accuracy is no evidence."""


def examine_outputs(outputs: Predictions, classes: Sequence[str]) -> Iterator[Finding]:
    """Alarms and notes on one teacher's outputs.

    Args:
        outputs: for the split; not all need be finite.
        classes: names, in the order of the labels.
    """
    finite_N = outputs.finite_N
    if bad := int((~finite_N).sum()):
        text = (
            f"gives NaN or infinite logits for {bad:,} of {len(finite_N):,} images: damaged "
            "weights, or numbers too large for its precision (try --precision 32)"
        )
        yield Finding("not-finite", text)
        return
    if text := _after_activation(outputs.logits_NC):
        yield Finding("probabilities", text)
    if len(outputs.labels_N) < FEW:
        return
    part, place = _most_frequent(outputs.classes_N)
    if part >= 0.99 and _most_frequent(outputs.labels_N)[0] < 0.9:
        text = (
            f"predicts {classes[place]!r} of {percent(part, 1)} of all images, whatever they show"
        )
        yield Finding("constant", text)
        return
    if (permuted := permutation(outputs, classes)) is not None:
        yield permuted
    elif (chance := near_chance(outputs)) is not None:
        yield Finding("near-chance", _near_chance_text(outputs, chance))
    if text := _never_predicted(outputs, classes):
        yield Finding("silent-classes", text)


def _after_activation(logits_NC: Float[Tensor, "N C"]) -> str:
    """Which activation seems to follow the logits, in words; empty where none does."""
    if (logits_NC < 0).any():
        return ""
    if (logits_NC.sum(dim=1) - 1).abs().max() < 1e-3:
        return "gives probabilities, not logits: remove the softmax at its end, or return their log"
    if len(logits_NC) >= FEW and (logits_NC <= 1).all() and logits_NC.std() > 1e-3:
        return "gives only values in 0..1, as after a sigmoid: logits are needed"
    return ""


def _most_frequent(classes_N: Int[Tensor, " N"]) -> tuple[float, int]:
    """Share and place of the most frequent class."""
    counts_C = torch.bincount(classes_N)
    return int(counts_C.max()) / len(classes_N), int(counts_C.argmax())


def near_chance(outputs: Predictions) -> float | None:
    """The accuracy of guessing, where the teacher's is not clearly better; else None."""
    chance = max(1 / outputs.logits_NC.shape[1], _most_frequent(outputs.labels_N)[0])
    # Random features distinguish the classes a little, too.
    luck = min(chance / 2, (1 - chance) / 10)
    bound = chance + luck + _doubt(chance, outputs)
    return chance if outputs.accuracy <= bound and bound < CERTAIN else None


def _doubt(accuracy: float, outputs: Predictions) -> float:
    """Three standard errors of an accuracy on so many examples."""
    return 3 * math.sqrt(accuracy * (1 - accuracy) / len(outputs.labels_N))


def _near_chance_text(outputs: Predictions, chance: float) -> str:
    read, base = readout(outputs), percent(chance, 1)
    below = outputs.accuracy < chance - _doubt(chance, outputs)
    how = "less often than" if below else "about as often as"
    text = f"is right on {percent(outputs.accuracy, 1)}, {how} guessing would be ({base})"
    if read > chance + 0.5 * (1 - chance):
        return text + (
            f"; yet a linear map of its logits is right on {percent(read, 1)}: its features "
            "distinguish the classes, so check its last layer, sign and order of classes"
        )
    return text + ": are its weights loaded, and are they for these data?"


def has_poor_head(outputs: Predictions) -> bool:
    """Whether a linear map of its logits is far more accurate than its predictions."""
    if len(outputs.labels_N) < FEW or not outputs.finite_N.all():
        return False
    return near_chance(outputs) is not None or outputs.accuracy < KNOWN * readout(outputs)


def readout(outputs: Predictions) -> float:
    """Accuracy of the best linear map from logits to classes, cross-fitted in halves, 0..1."""
    logits_NC = outputs.logits_NC.double()
    scaled_NC = (logits_NC - logits_NC.mean(dim=0)) / logits_NC.std(dim=0).clamp_min(1e-9)
    features_NP = torch.cat([scaled_NC, torch.ones(len(scaled_NC), 1, dtype=torch.float64)], 1)
    target_NC = torch.nn.functional.one_hot(outputs.labels_N, logits_NC.shape[1]).double()

    def right(rows: Tensor, others: Tensor) -> Tensor:
        known_MP = features_NP[others]
        ridge_PP = known_MP.mT @ known_MP + torch.eye(known_MP.shape[1])
        map_PC = torch.linalg.solve(ridge_PP, known_MP.mT @ target_NC[others])
        return correct(features_NP[rows] @ map_PC, outputs.labels_N[rows])

    return share(halves(right, len(outputs.labels_N)))


def permutation(outputs: Predictions, classes: Sequence[str]) -> Finding | None:
    """The permutation of the teacher's classes and its accuracy without it; None if there is none.

    The best assignment is found on one half of the examples and measured on the other, and the
    reverse, so that chance does not look like a permutation.
    """
    count = len(classes)
    right_N = outputs.right_N

    def right(rows: Tensor, others: Tensor) -> Tensor:
        order_C = _assignment(outputs.classes_N[others], outputs.labels_N[others], count)
        return order_C[outputs.classes_N[rows]] == outputs.labels_N[rows]

    fixed_N = halves(right, len(right_N))
    change = Change.of(fixed_N, right_N)
    order_C = _assignment(outputs.classes_N, outputs.labels_N, count)
    moved_N = (order_C.argsort() != torch.arange(count))[outputs.labels_N]
    if not change.sure or not moved_N.any():
        return None
    before, after = (share(part[moved_N]) for part in (right_N, fixed_N))
    # A weak teacher that confuses two classes is not one whose classes are exchanged.
    if after < max(2 * before, 2 / count):
        return None
    if change.accuracy < KNOWN * readout(outputs):  # any order helps an untrained head
        return None
    text = (
        f"its classes seem to be in another order: {describe_order(order_C.tolist(), classes)}; in "
        f"the data's order it would be right on {percent(change.accuracy, 1)} instead of "
        f"{percent(outputs.accuracy, 1)}"
    )
    return Finding("permuted-classes", text, change.accuracy)


def _assignment(
    classes_N: Int[Tensor, " N"], labels_N: Int[Tensor, " N"], count: int
) -> Int[Tensor, " C"]:
    """The meant class for each predicted class; ties go to the class itself."""
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
    pairs = ((classes[k], classes[meant]) for k, meant in enumerate(order) if k != meant)
    return f"it says {some_of((f'{named} for {meant}' for named, meant in pairs), SHOWN)}"


def _never_predicted(outputs: Predictions, classes: Sequence[str]) -> str:
    """The classes that are never predicted though there are enough examples, in words."""
    count = len(classes)
    there_C = torch.bincount(outputs.labels_N, minlength=count) >= SILENT
    never_C = torch.bincount(outputs.classes_N, minlength=count) == 0
    missing_C = there_C & never_C
    if not missing_C.any():
        return ""
    names = listed([classes[place] for place in missing_C.nonzero()[:, 0]], SHOWN)
    right = share(outputs.right_N[~missing_C[outputs.labels_N]])
    return (
        f"never predicts {names}; on the other classes it is right on {percent(right, 1)}: "
        "a specialist?"
    )


def compare_with_reported(outputs: Predictions, reported: float | None) -> Iterator[Finding]:
    """Findings where a teacher is not as accurate as its weights file states.

    Args:
        outputs: for the images whose class it knows.
        reported: the accuracy stated for these data, 0..1.
    """
    if reported is None or len(outputs.labels_N) < FEW:
        return
    accuracy, least = outputs.accuracy, max(LEAST, _doubt(reported, outputs))
    gap = accuracy - reported
    stated = f"its weights file states {percent(reported, 1)} and it has {percent(accuracy, 1)}"
    if gap < -least:
        text = f"{stated}: not loaded as it was trained, or for other data"
        yield Finding("below-promise", text, reported)
    if gap > least:
        text = (
            f"{stated}: it was probably trained on these images, so its numbers here say little; "
            "have it measured on images it has not seen"
        )
        yield Finding("above-promise", text)


def find_duplicates(
    outputs: Mapping[str, Predictions], hashes: Mapping[str, str]
) -> Iterator[Finding]:
    """Teachers with equal weights or outputs; each but the first gives a finding.

    Args:
        outputs: finite logits by name.
        hashes: SHA-256 of the weights by name.
    """
    for place, name in enumerate(outputs):
        for other in list(outputs)[:place]:
            one_NC, other_NC = outputs[name].logits_NC, outputs[other].logits_NC
            near = (one_NC - other_NC).abs().max() < 1e-3 * one_NC.std().clamp_min(1e-12)
            same = "weights" if hashes[name] == hashes[other] else "outputs" if near else ""
            if same:
                text = f"has the same {same} as {other}: drop one"
                yield Finding("twin", text, teacher=name)
                break
