"""What methods on soft targets share: a loss, a weighting, and how strong they are together.

    method = loss x weighting x mix (x hints), at one temperature, alpha and label weight

A weighting gives shares that sum to 1, so the strength of distillation is alpha whatever the
weighting and however many teachers there are: methods can be compared. The label keeps its whole
weight beside the soft target (docs/results.md, "The label's weight"). Nothing here imports torch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from collegium.errors import RequestError, UnknownNameError
from collegium.methods.base import AbstractMethod, require

if TYPE_CHECKING:
    from collegium.objectives import SoftTarget
    from collegium.objectives.objective import AbstractTerm, Objective
    from collegium.types import Dims
    from collegium.weighting import AbstractWeighting

WeightingName = Literal[
    "best",
    "uniform",
    "fixed",
    "random",
    "entropy",
    "confidence",
    "gradient",
    "latent",
    "posterior",
    "gated",
]

S = TypeVar("S", bound="AbstractSoftTarget")


@dataclass(frozen=True)
class AbstractSoftTarget(AbstractMethod):
    """A student that learns from the label and from its teachers' softened answers."""

    temperature: float = 4.0
    """Softmax temperature of teachers and student, > 0."""
    alpha: float = 0.9
    """Weight of the soft target, >= 0."""
    label_weight: float | None = 1.0
    """Weight of the cross entropy with the label, >= 0; None for what alpha leaves of 1."""
    loss: Literal["kl", "dkd", "dist", "logits"] = "kl"
    """How student and soft target are compared."""
    weighting: WeightingName = "uniform"
    """Who is heard how much: the same for all examples, by chance, or by example."""
    mix: Literal["probs", "logits", "loss"] | None = None
    """Mix probabilities or logits into one target, or weigh each teacher's loss; by the loss."""
    standardise: bool = False
    """Bring logits to mean 0 and deviation 1 before they are softened (Sun et al. 2024)."""
    teacher: str | None = None
    """Whom the weighting `best` hears; by default the most accurate on the validation split."""
    shares: tuple[str, ...] = ()
    """NAME=SHARE of the weighting `fixed`, >= 0; they are brought to sum 1, others get 0."""
    warmup: float = 0.0
    """Part of the epochs over which the soft target's weight grows from nothing, 0 to 1."""
    target_class: float = 1.0
    """Inside dkd: weight of the true class against all others (its alpha)."""
    other_classes: float = 8.0
    """Inside dkd: weight of what is said among the other classes (its beta)."""
    between_classes: float = 1.0
    """Inside dist: weight of the correlation between classes (its beta)."""
    between_examples: float = 1.0
    """Inside dist: weight of the correlation between examples (its gamma)."""

    reads_maps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"temperature must be > 0, got {self.temperature}")
        if self.label_weight is None:
            require(0 <= self.alpha <= 1, f"alpha must be between 0 and 1, got {self.alpha}")
        require(self.alpha >= 0, f"alpha must be >= 0, got {self.alpha}")
        require((self.label_weight or 0) >= 0, f"label_weight must be >= 0: {self.label_weight}")
        require(0 <= self.warmup <= 1, f"warmup must be between 0 and 1, got {self.warmup}")
        require(
            not (self.loss == "logits" and self.mix == "probs"),
            "loss=logits compares logits: mix=logits or mix=loss, not mix=probs",
        )
        _read_shares(self.shares)

    @property
    def ce_weight(self) -> float:
        """The weight of the label's cross entropy."""
        return 1 - self.alpha if self.label_weight is None else self.label_weight

    @property
    def needs_teacher_accuracy(self) -> bool:
        """Where it hears the best teacher, and nobody has said which that is."""
        return self.weighting == "best" and self.teacher is None

    def heard(self: S, teachers: tuple[str, ...], accuracy: Mapping[str, float]) -> S:
        """Settle on one teacher, where the weighting hears one alone.

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
            f"{self.slug} hears the teacher that is best on validation, and there is no validation "
            f"split: name one of {', '.join(teachers)} by `{self.slug} --teacher NAME`, or hold "
            "some data out",
        )
        best = self.teacher or max(teachers, key=lambda name: accuracy.get(name, 0.0))
        return dataclasses.replace(self, teacher=best)

    def active_teachers(self, teachers: tuple[str, ...]) -> tuple[str, ...]:
        """Only the chosen teacher is run, where one alone is heard."""
        return (self.teacher,) if self.weighting == "best" and self.teacher else teachers

    def build(self, dims: "Dims") -> "Objective":
        """Terms `ce` and `kd`, and what the method adds.

        Raises:
            RequestError: an option out of range, or something the networks cannot give.
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
        from collegium.objectives import MIXES, SoftLoss, SoftTarget

        inside = {
            "dkd": (self.target_class, self.other_classes),
            "dist": (self.between_classes, self.between_examples),
        }
        loss = SoftLoss(
            self.loss,
            self.temperature,
            self.mix or MIXES[self.loss][0],
            self.standardise,
            inside.get(self.loss, (1.0, 1.0)),
        )
        return SoftTarget(loss, scale, over_classes=over_classes, warmup=self.warmup)

    def extra_terms(
        self, dims: "Dims", weighting: "AbstractWeighting"
    ) -> "dict[str, AbstractTerm]":
        """What belongs to the method beside label and soft target."""
        from collegium.objectives import GateLabel
        from collegium.weighting import GatedWeighting

        return {"gate": GateLabel(weighting)} if isinstance(weighting, GatedWeighting) else {}

    def make_weighting(self, dims: "Dims") -> "AbstractWeighting":
        """The weighting by its name, with its published settings.

        Raises:
            RequestError: several teachers for one, shares of none, or a student without layers.
        """
        from collegium import weighting as kinds

        names = dims.teachers
        if self.weighting == "best":
            require(
                len(names) == 1 or self.teacher in names,
                f"{self.slug} hears one teacher; {len(names)} were given ({', '.join(names)}): "
                "name one by teacher=NAME",
            )
            chosen = self.teacher or names[0]
            return kinds.FixedWeighting([float(name == chosen) for name in names])
        if self.weighting == "uniform":
            return kinds.FixedWeighting([1.0] * len(names))
        if self.weighting == "fixed":
            return kinds.FixedWeighting(self._shares_of(names))
        if self.weighting == "random":
            return kinds.RandomWeighting(names, seed=dims.seed)
        if self.weighting == "entropy":
            return kinds.EntropyWeighting()
        if self.weighting == "confidence":
            return kinds.ConfidenceWeighting()
        if self.weighting == "gradient":
            return kinds.GradientWeighting(self.temperature)
        if self.weighting == "posterior":
            return kinds.PosteriorWeighting()
        width = width_of_last_map(dims, f"weighting={self.weighting}")
        if self.weighting == "gated":
            return kinds.GatedWeighting(names, width)
        return kinds.LatentWeighting(names, width, rate=10.0, learn_from=0.3, seed=dims.seed)

    def _shares_of(self, names: Sequence[str]) -> list[float]:
        shares = _read_shares(self.shares) or dict.fromkeys(names, 1.0)
        for name in shares:
            if name not in names:
                raise UnknownNameError("teacher in shares", name, names)
        return [shares.get(name, 0.0) for name in names]


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


def width_of_last_map(dims: "Dims", what: str) -> int:
    """Channels of the student's last map.

    Raises:
        RequestError: the student has none.
    """
    if not dims.student_maps:
        raise RequestError(
            f"{what} needs a hidden layer of the student, and it has none; of the weightings, "
            "uniform, entropy, confidence, gradient and posterior need none"
        )
    return list(dims.student_maps.values())[-1][0]


@dataclass(frozen=True)
class AbstractFeature(AbstractSoftTarget):
    """A student that learns from its teachers' hidden layers; soft targets are an option."""

    alpha: float = 0.0
    """Weight of the soft target beside the hidden layers, 0 for none."""
    hint_weight: float = 1.0
    """Weight of the hidden layers' loss, >= 0; the teachers' shares sum to 1."""
    hint_pairs: tuple[str, ...] = ()
    """Layers to compare, STUDENT_LAYER=TEACHER:TEACHER_LAYER, in place of the method's rule."""

    needs = "feature maps of every teacher"
    reads_maps = True
    student_layers: ClassVar[Literal["middle", "last", "all"]] = "last"
    """Which of the student's layers the method reads; each teacher's nearest is its target."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.hint_weight >= 0, f"hint_weight must be >= 0, got {self.hint_weight}")

    def pairs_asked(self) -> tuple[str, ...]:
        """Those of `hint_pairs`."""
        return self.hint_pairs

    def pairs(self, dims: "Dims") -> dict[str, list[tuple[str, str]]]:
        """For each teacher, the student layers and its own that are compared.

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


def check_maps(slug: str, dims: "Dims") -> None:
    """Refuse a method on hidden layers where there are none.

    Raises:
        RequestError: naming who has none, and what would work.
    """
    silent = [name for name in dims.teachers if not dims.teacher_maps.get(name)]
    if silent or not dims.student_maps:
        who = f"teacher {', '.join(silent)}" if silent else "the student"
        raise RequestError(
            f"{slug} compares hidden layers, and {who} has none that can be read; methods on "
            "answers alone need none: kd, avg_mkd, dkd, dist, ebkd, aekd"
        )
