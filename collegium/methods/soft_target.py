"""The base classes of methods on soft targets: a loss, a weighting, and their common strength.

    method = loss x weighting x mix (x hints), at one temperature, alpha and label weight

Weights sum to 1 over the teachers, so the strength of distillation is alpha for every weighting and
any number of teachers: methods can be compared. The label keeps its whole weight beside the soft
target (docs/results.md, "The label's weight"). Nothing here imports torch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from collegium.errors import RequestError, UnknownNameError
from collegium.methods.base import ALPHA, LABEL_WEIGHT, TEMPERATURE, AbstractMethod, require
from collegium.methods.choices import LOSSES, WEIGHTINGS, LossName, Mix, WeightingName

if TYPE_CHECKING:
    from collegium.objectives import SoftLoss, SoftTarget
    from collegium.objectives.objective import AbstractTerm, Objective
    from collegium.types import Dims, HintPair
    from collegium.weighting import AbstractWeighting

STANDARDISED = {"temperature": 2.0, "alpha": 9.0, "label_weight": 0.1, "standardise": True}
"""The preset of methods whose logits are standardised (Sun et al. 2024)."""
Comparisons = Mapping[str, tuple[Any, float]]
"""A subclass of `AbstractComparison` (`collegium.objectives`) and its weight, by name."""
S = TypeVar("S", bound="AbstractSoftTarget")


@dataclass(frozen=True)
class AbstractSoftTarget(AbstractMethod):
    """A student learns from the label and from its teachers' softened outputs."""

    temperature: float = TEMPERATURE
    """Softmax temperature of teachers and student, > 0."""
    alpha: float = ALPHA
    """Weight of the soft target, >= 0."""
    label_weight: float | None = LABEL_WEIGHT
    """Weight of the cross entropy with the label, >= 0; None for what alpha leaves of 1."""
    loss: LossName = "kl"
    """The loss between student and soft target."""
    weighting: WeightingName = "uniform"
    """How teachers are weighted: fixed, at random, or for each example."""
    mix: Mix | None = None
    """Average probabilities or logits into one target, or the losses; the default is the loss's."""
    standardise: bool = False
    """Bring logits to mean 0 and standard deviation 1 before the softmax (Sun et al. 2024)."""
    teacher: str | None = None
    """The teacher of the weighting `best`; by default the most accurate on the validation split."""
    shares: tuple[str, ...] = ()
    """NAME=SHARE for the weighting `fixed`, >= 0; normalised to sum 1, other teachers get 0."""
    warmup: float = 0.0
    """Part of the epochs over which the soft target's weight grows from 0; 0 to 1."""
    target_class: float = 1.0
    """Inside dkd: weight of the true class against all others (its alpha)."""
    other_classes: float = 8.0
    """Inside dkd: weight of the distribution among the other classes (its beta)."""
    between_classes: float = 1.0
    """Inside dist: weight of the correlation between classes (its beta)."""
    between_examples: float = 1.0
    """Inside dist: weight of the correlation between examples (its gamma)."""

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"temperature must be > 0, got {self.temperature}")
        if self.label_weight is None:
            require(0 <= self.alpha <= 1, f"alpha must be between 0 and 1, got {self.alpha}")
        require(self.alpha >= 0, f"alpha must be >= 0, got {self.alpha}")
        require((self.label_weight or 0) >= 0, f"label_weight must be >= 0: {self.label_weight}")
        require(0 <= self.warmup <= 1, f"warmup must be between 0 and 1, got {self.warmup}")
        if self.mix not in (None, "loss"):  # torch is imported to check the other mixes
            self._soft_loss()
        _read_shares(self.shares)

    @property
    def ce_weight(self) -> float:
        """Weight of the cross entropy with the label."""
        return 1 - self.alpha if self.label_weight is None else self.label_weight

    @property
    def needs_teacher_accuracy(self) -> bool:
        """Whether the weighting is `best` and no teacher is named."""
        return self.weighting == "best" and self.teacher is None

    def resolve_teachers(self: S, teachers: tuple[str, ...], accuracy: Mapping[str, float]) -> S:
        """This method, with the teacher of the weighting `best` chosen.

        Raises:
            UnknownNameError: no teacher has the name.
            RequestError: several teachers, none named, and no accuracies to choose by.
        """
        if self.weighting != "best":
            return self
        if self.teacher is not None and self.teacher not in teachers:
            raise UnknownNameError("teacher", self.teacher, teachers)
        require(
            self.teacher is not None or len(teachers) == 1 or bool(accuracy),
            f"{self.slug} uses the teacher that is best on validation, and there is no validation "
            f"split: name one of {', '.join(teachers)} by `{self.slug} --teacher NAME`, or hold "
            "some data out",
        )
        best = self.teacher or max(teachers, key=lambda name: accuracy.get(name, 0.0))
        return dataclasses.replace(self, teacher=best)

    def active_teachers(self, teachers: tuple[str, ...]) -> tuple[str, ...]:
        """The chosen teacher alone for the weighting `best`, else all."""
        return (self.teacher,) if self.weighting == "best" and self.teacher else teachers

    def build(self, dims: "Dims") -> "Objective":
        """Terms `ce` and `kd`, and those of the method.

        Raises:
            RequestError: an option out of range, or something that the networks do not have.
        """
        from collegium.objectives import HardLabel
        from collegium.objectives.objective import Objective

        weighting = self.make_weighting(dims)
        terms: dict[str, AbstractTerm] = {"ce": HardLabel(self.ce_weight)}
        if self.alpha:
            terms["kd"] = self.soft_target(self.alpha)
        return Objective(terms | self.extra_terms(dims, weighting), weighting)

    def soft_target(self, scale: float, over_classes: bool = False) -> "SoftTarget":
        """The term `kd`."""
        from collegium.objectives import SoftTarget

        return SoftTarget(self._soft_loss(), scale, over_classes=over_classes, warmup=self.warmup)

    def _soft_loss(self) -> "SoftLoss":
        from collegium.objectives import SoftLoss

        loss = LOSSES.find(self.loss).make(self.options())
        return SoftLoss(loss, self.mix, self.standardise)

    def extra_terms(
        self, dims: "Dims", weighting: "AbstractWeighting"
    ) -> "dict[str, AbstractTerm]":
        """Terms of the method beside label and soft target."""
        from collegium.objectives import OwnLoss

        own = {weighting.own_term: OwnLoss(weighting)} if weighting.own_term else {}
        return own | self.hint_terms(dims)

    def hint_terms(self, dims: "Dims") -> "dict[str, AbstractTerm]":
        """Terms on hidden layers."""
        return {}

    def make_weighting(self, dims: "Dims") -> "AbstractWeighting":
        """The weighting of that name, with this method's options.

        Raises:
            RequestError: several teachers for one, shares of none, or a student without layers.
        """
        kind = WEIGHTINGS.find(self.weighting)
        if kind.reads_student_map and not dims.student_maps:
            others = [n for n, k in WEIGHTINGS.all().items() if not k.reads_student_map]
            raise RequestError(
                f"weighting={self.weighting} needs a hidden layer of the student, and it has none; "
                f"of the weightings, {', '.join(others)} need none"
            )
        return kind.make(dims, {**self.options(), "shares": _read_shares(self.shares)})


def _read_shares(texts: Sequence[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            shares[name] = float(number)
        except ValueError:
            raise RequestError(f"shares are NAME=NUMBER, like r56=0.5; found {text!r}") from None
    require(
        not shares or (min(shares.values()) >= 0 and 0 < sum(shares.values()) < float("inf")),
        f"shares must be >= 0 and not all 0; found {', '.join(texts)}",
    )
    return shares


@dataclass(frozen=True)
class AbstractFeature(AbstractSoftTarget):
    """A student learns from its teachers' hidden layers; soft targets are an option."""

    alpha: float = 0.0
    """Weight of the soft target beside the hidden layers, 0 for none."""
    hint_weight: float = 1.0
    """Weight of the hidden layers' loss, >= 0; the teachers' shares sum to 1."""
    hint_pairs: tuple[str, ...] = ()
    """Layers to compare, STUDENT_LAYER=TEACHER:TEACHER_LAYER, in place of the method's rule."""

    needs = "feature maps of every teacher"
    student_layers: ClassVar[Literal["middle", "last", "all"]] = "last"
    """The student's layers that the method reads; each teacher's nearest layer is the target."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.hint_weight >= 0, f"hint_weight must be >= 0, got {self.hint_weight}")

    def hint_terms(self, dims: "Dims") -> "dict[str, AbstractTerm]":
        """A term NAME.TEACHER for each of `comparisons` and each teacher."""
        from collegium.objectives import Compared

        pairs, compared = self.pairs(dims), self.comparisons()
        made = {name: (kind(pairs, dims), weight) for name, (kind, weight) in compared.items()}
        return {
            f"{name}.{teacher}": Compared(comparison, teacher, weight)
            for teacher in pairs
            for name, (comparison, weight) in made.items()
        }

    def comparisons(self) -> Comparisons:
        """The comparisons of layers of which the method consists, by the names of their terms."""
        return {}

    def pairs(self, dims: "Dims") -> dict[str, list[tuple[str, str]]]:
        """For each teacher, the pairs of a student layer and one of its own that are compared.

        Raises:
            RequestError: a network has no hidden layers.
        """
        from collegium.models.features.pairing import nearest_layer, pair_layers

        if self.hint_pairs:
            found: dict[str, list[tuple[str, str]]] = {}
            for pair in pair_layers(dims, explicit=self.hint_pairs):
                found.setdefault(pair.teacher, []).append((pair.student_layer, pair.teacher_layer))
            return found
        check_maps(self.slug, dims)
        layers = list(dims.student_maps)
        chosen = {"middle": [layers[len(layers) // 2]], "last": layers[-1:], "all": layers}
        return {
            name: [(path, nearest_layer(dims, path, name)) for path in chosen[self.student_layers]]
            for name in dims.teachers
        }


def make_hints(
    pairs: "Sequence[HintPair]", dims: "Dims", **options: Any
) -> "dict[str, AbstractTerm]":
    """A term `hint.TEACHER` for each pair; with the student's layer if a teacher has several."""
    from collegium.objectives import Hint

    names = [pair.teacher for pair in pairs]
    return {
        f"hint.{pair.teacher}" + f".{pair.student_layer}" * (names.count(pair.teacher) > 1): (
            Hint(pair, dims, **options)
        )
        for pair in pairs
    }


def check_maps(slug: str, dims: "Dims") -> None:
    """Refuse a method on hidden layers if a network has none.

    Raises:
        RequestError: names the network and methods that need no hidden layers.
    """
    missing = [name for name in dims.teachers if not dims.teacher_maps.get(name)]
    if missing or not dims.student_maps:
        who = f"teacher {', '.join(missing)}" if missing else "the student"
        raise RequestError(
            f"{slug} compares hidden layers, and {who} has none that can be read; methods on "
            "logits alone need none: kd, avg_mkd, dkd, dist, ebkd, aekd"
        )
