"""FitNets: hints from hidden layers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from collegium.methods.soft_target import AbstractFeature, make_hints

if TYPE_CHECKING:
    from collegium.objectives.objective import AbstractTerm
    from collegium.types import Dims


@dataclass(frozen=True)
class FitNets(AbstractFeature):
    """FitNets hints: regress each teacher's feature map from the student's middle layer.

    Romero, Ballas, Kahou, Chassang, Gatta, Bengio, FitNets: Hints for Thin Deep Nets, ICLR 2015,
    arXiv 1412.6550, equation 3. In one stage, as public code trains it; a regressor per teacher
    (1x1 convolution after pooling to one resolution), trained with the student, not exported.

    Loss: CE(s, y) + hint_weight sum_t w_t mean (r_t(F_s) - F_t)^2.

    >>> import torch, collegium as cg
    >>> maps = {"mid": (2, 1, 1)}
    >>> objective = cg.FitNets(hint_weight=1.0).build(cg.Dims(2, ("t",), maps, {"t": maps}))
    >>> feature = {"mid": torch.zeros(1, 2, 1, 1)}  # the regressor starts without a bias
    >>> student = cg.StudentOutputs(torch.zeros(1, 2), feature)
    >>> teacher = cg.TeacherOutputs(torch.zeros(1, 1, 2), {"t": {"mid": feature["mid"] + 3}})
    >>> round(objective(student, teacher, torch.tensor([0]))["hint.t"].item(), 4)
    9.0
    """

    slug = "fitnets"
    bibtex = """
        @inproceedings{romero2015fitnets,
          title = {FitNets: Hints for Thin Deep Nets},
          author = {Romero, Adriana and Ballas, Nicolas and Kahou, Samira Ebrahimi and
                    Chassang, Antoine and Gatta, Carlo and Bengio, Yoshua},
          booktitle = {ICLR}, year = {2015}
        }"""
    presets = {"published": {"hint_weight": 100.0}}  # noqa: RUF012 - a class constant
    student_layers = "middle"

    hint_weight: float = 1.0
    """Weight of the hints, >= 0; the teachers' weights sum to 1. Public code has 100."""

    def hint_terms(self, dims: "Dims") -> "dict[str, AbstractTerm]":
        """A term `hint.TEACHER` for each teacher (and layer, if there are several)."""
        from collegium.types import HintPair

        found = self.pairs(dims).items()
        pairs = [HintPair(own, name, theirs) for name, both in found for own, theirs in both]
        return make_hints(pairs, dims, scale=self.hint_weight, norm="none")
