"""AMTML-KD: adaptive multi-teacher multi-level distillation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from collegium.methods.base import require
from collegium.methods.choices import WeightingName
from collegium.methods.soft_target import AbstractSoftTarget, make_hints

if TYPE_CHECKING:
    from collegium.objectives.objective import AbstractTerm, Objective
    from collegium.types import Dims
    from collegium.weighting import AbstractWeighting

_PUBLISHED = {
    "temperature": 5.0,
    "alpha": 0.7,
    "label_weight": None,  # the paper's 1 - alpha
    "hint_weight": 1.0,
    "adapter_rate": 1.0,
    "adapter_start": 0.0,
}
_NOTEBOOK = {
    **_PUBLISHED,
    "beta_pool": "avg",
    "normalise_beta": False,
    "detach_beta": False,
    "adapter_init_std": 1.0,
    "adapter_share": 80 / 280,
    "kl_over_classes": True,
    "kl_factor": 2.0,
    "distance_weight": 1.0,
    "angle_input": "logits",
    "hint_norm": "channel_in",
    "hint_reduce": "sum",
    "train_regressors": False,
}


@dataclass(frozen=True)
class AMTML(AbstractSoftTarget):
    """Adaptive multi-teacher multi-level distillation (AMTML-KD): learned weights, and hints.

    Liu, Zhang, Wang, Adaptive multi-teacher multi-level knowledge distillation, Neurocomputing 415
    (2020) 106-113, DOI 10.1016/j.neucom.2020.07.048, arXiv 2103.04062.

    Weights: w_t = softmax over teachers of v . (theta_t * beta), where beta is the student's pooled
    last map for this example, theta_t the teacher's latent vector and v a global one. Target:
    m = sum_t w_t softmax(z_t / temperature).
    Loss: label_weight CE(s, y) + alpha temperature^2 KL(m || q) + angle_weight RKD-angle(q, m)
    + hint_weight mean over groups |regressor(student map) - map of the group's teacher|^2.
    The weights are learned for each example, from the KL to the one mixture (not from a sum of
    KLs). Each group of the student's layers gets a hint from one teacher. Our defaults differ from
    the paper: the feature has length 1, the adapter starts after 0.3 of the epochs, and the label
    has weight 1 (the paper's 1 - alpha is in the presets, or label_weight None).

    >>> import torch, collegium as cg
    >>> dims = cg.Dims(classes=2, teachers=("a",), student_maps={"last": (4, 2, 2)})
    >>> method = cg.AMTML(temperature=1.0, alpha=1.0, angle_weight=0.0, hint_weight=0.0)
    >>> student = cg.StudentOutputs(torch.zeros(1, 2), {"last": torch.ones(1, 4, 2, 2)})
    >>> certain = cg.TeacherOutputs(torch.tensor([[[100.0, 0.0]]]))  # one teacher: plain KD
    >>> round(method.build(dims)(student, certain, torch.tensor([0]))["kd"].item(), 4)  # ln 2
    0.6931
    """

    slug = "amtml"
    needs = "logits; feature maps for the hints"
    bibtex = """
        @article{liu2020adaptive,
          title = {Adaptive multi-teacher multi-level knowledge distillation},
          author = {Liu, Yuang and Zhang, Wei and Wang, Jun},
          journal = {Neurocomputing}, volume = {415}, pages = {106--113}, year = {2020},
          doi = {10.1016/j.neucom.2020.07.048}
        }"""
    presets = {  # noqa: RUF012 - a class constant
        "figure": _PUBLISHED,
        "notebook_kd": {**_NOTEBOOK, "hint_weight": 0.0},
        "notebook_learning": {
            **_NOTEBOOK,
            "ce_softened": True,
            "angle_input": "log_probs",
            "adapter_l2": 0.1,
            "hint_assign": "all_to_one",
            "hints_in_stage_two": False,
        },
        "notebook_hint": {
            **_NOTEBOOK,
            "angle_weight": 0.0,
            "distance_weight": 0.0,
            "hint_assign": "skip_last",
            "hint_pooled": True,
        },
    }

    alpha: float = 0.5
    """Weight of the integrated soft target, >= 0."""
    weighting: WeightingName = "latent"
    """How teachers are weighted; `latent` reads the options `beta_...` and `adapter_...`."""
    angle_weight: float = 1.0
    """Weight of the angles between the examples' outputs (RKD), against the target's."""
    distance_weight: float = 0.0
    """Weight of the distances between the examples' outputs (RKD); not in the paper's figure."""
    hint_weight: float = 0.1
    """Weight of the hints; 0 runs no regressor."""
    beta_pool: Literal["max", "avg"] = "max"
    """Pooling of the student's last map; max in the paper's figure, avg in its code."""
    normalise_beta: bool = True
    """Scale the feature to length 1, so that its width and pooling do not matter."""
    detach_beta: bool = True
    """Stop the weights' gradient before the student, so that it does not change its own target."""
    adapter_init_std: float = 0.3
    """Standard deviation of v at the start, and of the scores if the feature is normalised; > 0."""
    adapter_rate: float = 10.0
    """Learning rate of the latent vectors, as a multiple of the student's."""
    adapter_start: float = 0.3
    """Part of the epochs before the adapter learns; an untrained student misleads it."""
    adapter_share: float = 1.0
    """Stage one: part of the epochs after which the adapter is frozen."""
    adapter_l2: float = 0.0
    """Weight of |v|^2 + sum |theta|^2 in stage one; pulls the weights to uniform."""
    adapter_label_weight: float = 0.0
    """Our extension: weight of CE(mixture, label), which trains the adapter."""
    angle_input: Literal["probs", "logits", "log_probs"] = "probs"
    """The student's side of angle and distance; only probs makes a perfect student's loss 0."""
    kl_over_classes: bool = False
    """Divide the KL by the number of classes, as the authors' code does."""
    kl_factor: float = 1.0
    """Multiplies alpha in front of the KL; the authors' code has 2."""
    ce_softened: bool = False
    """Take the cross entropy at the temperature, as one of the authors' notebooks does."""
    hint_norm: Literal["channel_out", "channel_in", "none"] = "channel_out"
    """Compare directions after the regressor, normalise before it, or plain squares."""
    hint_assign: Literal["one_per_group", "cyclic", "all_to_one", "skip_last"] = "one_per_group"
    """Which teacher gives the hint to which group of student layers."""
    hint_pairs: tuple[str, ...] = ()
    """Explicit hints, STUDENT_LAYER=TEACHER:TEACHER_LAYER, instead of the rule."""
    hint_reduce: Literal["mean", "sum"] = "mean"
    """Reduction over groups; the mean makes the strength independent of their number."""
    hint_pooled: bool = False
    """Compare every position with the teacher's mean over positions."""
    train_regressors: bool = True
    """Whether the hint regressors learn; the authors' never do."""
    hints_in_stage_two: bool = True
    """Keep the hints after the adapter stage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.adapter_share <= 1, "adapter_share must be between 0 and 1")
        require(0 <= self.adapter_start < 1, "adapter_start must be at least 0 and below 1")
        require(self.adapter_init_std > 0, "adapter_init_std must be > 0: at 0 it cannot learn")

    def build(self, dims: "Dims") -> "Objective":
        """Terms `ce`, `kd`, then those switched on of `angle`, `distance`, `hint.TEACHER`.

        Raises:
            RequestError: an option out of range, or hints from a network without feature maps.
        """
        from collegium.objectives import HardLabel, MixtureLabel
        from collegium.objectives.objective import Objective

        weighting = self.make_weighting(dims)
        ce_temperature = self.temperature if self.ce_softened else 1.0
        terms: dict[str, AbstractTerm] = {
            "ce": HardLabel(self.ce_weight, ce_temperature),
            "kd": self.soft_target(self.alpha * self.kl_factor, self.kl_over_classes),
        }
        terms |= self._relations() | self._hints(dims) | self._penalty(weighting)
        terms |= self.extra_terms(dims, weighting)
        if self.adapter_label_weight:
            terms["adapter_label"] = MixtureLabel(self.adapter_label_weight)
        return Objective(terms, weighting)

    def _relations(self) -> "dict[str, AbstractTerm]":
        from collegium.losses import angle, distance
        from collegium.objectives import RelationToTarget

        relations = {
            "angle": (angle, self.angle_weight),
            "distance": (distance, self.distance_weight),
        }
        return {
            name: RelationToTarget(relation, self.temperature, weight, self.angle_input)
            for name, (relation, weight) in relations.items()
            if weight
        }

    def _hints(self, dims: "Dims") -> "dict[str, AbstractTerm]":
        from collegium.models.features.pairing import pair_layers

        if not self.hint_weight:
            return {}
        pairs = pair_layers(dims, self.hint_assign, self.hint_pairs)
        count = len(pairs) if self.hint_reduce == "mean" else 1
        return make_hints(
            pairs,
            dims,
            scale=self.hint_weight / count,
            norm=self.hint_norm,
            pooled=self.hint_pooled,
            trained=self.train_regressors,
            until=1.0 if self.hints_in_stage_two else self.adapter_share,
            weighted=False,
        )

    def _penalty(self, weighting: "AbstractWeighting") -> "dict[str, AbstractTerm]":
        from collegium.objectives import AdapterL2
        from collegium.weighting import LatentWeighting

        if not self.adapter_l2 or not isinstance(weighting, LatentWeighting):
            return {}
        return {"adapter_l2": AdapterL2(weighting, self.adapter_l2, until=self.adapter_share)}
