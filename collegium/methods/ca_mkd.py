"""CA-MKD: confidence-aware multi-teacher distillation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from collegium.methods.base import require
from collegium.methods.choices import Mix, WeightingName
from collegium.methods.soft_target import AbstractFeature

if TYPE_CHECKING:
    from collegium.objectives.objective import AbstractTerm, Objective
    from collegium.types import Dims

_PUBLISHED = {"alpha": 1.0, "label_weight": 1.0, "hint_weight": 50.0}


@dataclass(frozen=True)
class CAMKD(AbstractFeature):
    """Confidence-aware distillation (CA-MKD): weight soft targets and hints by cross entropy.

    Zhang, Chen, Wang, Confidence-Aware Multi-Teacher Knowledge Distillation, ICASSP 2022,
    arXiv 2201.00007, equations 2 to 9.

    Weights: w_t = (1 - softmax_t CE_t) / (T - 1), where CE_t is teacher t's at temperature 1; for
    the hints, that of teacher t's classifier on the student's map after its regressor.
    Loss: label_weight CE(s, y) + alpha temperature^2 sum_t w_t KL(p_t || q)
    + hint_weight sum_t v_t mean (r_t(F_s) - F_t)^2. The public code divides both sums by T again
    (preset `public_scale`).

    >>> import torch, collegium as cg
    >>> objective = cg.CAMKD(hint_weight=0.0).build(cg.Dims(classes=2, teachers=("a", "b")))
    >>> teachers = cg.TeacherOutputs(torch.tensor([[[100.0, 0.0], [0.0, 100.0]]]))
    >>> objective.weigh(cg.StudentOutputs(torch.zeros(1, 2)), teachers, torch.tensor([0])).tolist()
    [[1.0, 0.0]]
    """

    slug = "ca_mkd"
    bibtex = """
        @inproceedings{zhang2022confidence,
          title = {Confidence-Aware Multi-Teacher Knowledge Distillation},
          author = {Zhang, Hailin and Chen, Defang and Wang, Can},
          booktitle = {ICASSP}, year = {2022}
        }"""
    needs = "logits; last feature maps and linear classifiers for the hints"
    presets = {  # noqa: RUF012 - a class constant
        "published": _PUBLISHED,
        "public_scale": {**_PUBLISHED, "divided_by_teachers": True},
    }

    alpha: float = 0.9
    """Weight of the soft target, >= 0."""
    weighting: WeightingName = "confidence"
    """How teachers are weighted in the soft target; hints have their own weights."""
    mix: Mix | None = "loss"
    """Average the teachers' losses, or probabilities or logits into one target."""
    hint_weight: float = 0.5
    """Weight of the hints, >= 0; 0 needs no classifier and no regressor. Public code has 50."""
    divided_by_teachers: bool = False
    """Divide soft target and hints by the number of teachers again, as the public code does."""

    def build(self, dims: "Dims") -> "Objective":
        """Terms `ce`, `kd` and `hints`.

        Raises:
            RequestError: a teacher has no linear classifier on its last map.
        """
        objective = super().build(dims)
        if self.divided_by_teachers:
            for name in ("kd", "hints"):
                if name in objective.terms:
                    objective.terms[name].scale /= len(dims.teachers)
        return objective

    def pairs(self, dims: "Dims") -> dict[str, list[tuple[str, str]]]:
        """Each teacher's last layer, which is before its classifier, with the student's last.

        Raises:
            RequestError: a network has no hidden layers, or another layer of a teacher is named.
        """
        found = super().pairs(dims)
        last = {name: list(dims.teacher_maps[name])[-1] for name in found}
        if not self.hint_pairs:
            return {name: [(found[name][0][0], last[name])] for name in found}
        for name, named in found.items():
            require(
                named[0][1] == last[name],
                f"ca_mkd puts hints before the classifier of teacher {name}: name its last layer, "
                f"{last[name]}, not {named[0][1]}",
            )
        return found

    def hint_terms(self, dims: "Dims") -> "dict[str, AbstractTerm]":
        """One term `hints` over all teachers."""
        from collegium.objectives import ClassifiedHints, Hint
        from collegium.types import HintPair

        if not self.hint_weight:
            return {}
        pairs = {name: found[0] for name, found in self.pairs(dims).items()}
        headless = [name for name in pairs if name not in dims.heads]
        require(
            not headless,
            f"ca_mkd weighs hints by the teachers' own classifiers, and {', '.join(headless)} has "
            "no linear one on its last map; ca_mkd --hint-weight 0 needs none, nor do fitnets "
            "--weighting confidence, at and rkd",
        )
        hints = [
            Hint(HintPair(own, name, theirs), dims, scale=1.0, norm="none")
            for name, (own, theirs) in pairs.items()
        ]
        heads = [dims.heads[name] for name in pairs]
        return {"hints": ClassifiedHints(hints, heads, self.hint_weight)}
