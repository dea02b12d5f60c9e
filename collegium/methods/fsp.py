"""Flow of solution procedure (FSP)."""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collegium.methods.base import require
from collegium.methods.soft_target import AbstractFeature

if TYPE_CHECKING:
    from collegium.objectives.objective import AbstractTerm
    from collegium.types import Dims


@dataclass(frozen=True)
class FSP(AbstractFeature):
    """Flow of solution procedure: match Gram matrices between pairs of layers.

    Yim, Joo, Bae, Kim, A Gift from Knowledge Distillation: Fast Optimization, Network Minimization
    and Transfer Learning, CVPR 2017, equations 1 and 2. In one stage, beside the label.

    Loss: CE(s, y) + hint_weight sum_t w_t sum over consecutive layers mean (G_s - G_t)^2, where G
    are the products of the channels of two layers, the mean over positions. Where channels differ,
    a trained 1x1 convolution maps the student's to the teacher's; the paper needs equal channels.

    >>> import torch, collegium as cg
    >>> maps = {"one": (1, 2, 2), "two": (1, 1, 1)}
    >>> objective = cg.FSP(hint_weight=1.0).build(cg.Dims(2, ("t",), maps, {"t": maps}))
    >>> ones = {"one": torch.ones(1, 1, 2, 2), "two": torch.ones(1, 1, 1, 1)}
    >>> student = cg.StudentOutputs(torch.zeros(1, 2), ones)
    >>> twos = {name: 2 * value for name, value in ones.items()}
    >>> teacher = cg.TeacherOutputs(torch.zeros(1, 1, 2), {"t": twos})
    >>> objective(student, teacher, torch.tensor([0]))["fsp.t.one"].item()  # (1 - 4)^2
    9.0
    """

    slug = "fsp"
    bibtex = """
        @inproceedings{yim2017gift,
          title = {A Gift from Knowledge Distillation},
          author = {Yim, Junho and Joo, Donggyu and Bae, Jihoon and Kim, Junmo},
          booktitle = {CVPR}, year = {2017}
        }"""
    presets = {"published": {"hint_weight": 50.0}}  # noqa: RUF012 - a class constant
    student_layers = "all"

    hint_weight: float = 0.5
    """Weight of the flows, >= 0; the teachers' weights sum to 1. Public code has 50."""

    def hint_terms(self, dims: "Dims") -> "dict[str, AbstractTerm]":
        """A term `fsp.TEACHER.LAYER` for each pair of layers.

        Raises:
            RequestError: fewer than two layers to compare.
        """
        from collegium.objectives import Flow

        terms: dict[str, AbstractTerm] = {}
        for name, pairs in self.pairs(dims).items():
            require(
                len(pairs) > 1,
                f"fsp compares pairs of layers, and {name} and the student share {len(pairs)}; "
                "at and fitnets need one",
            )
            for both in itertools.pairwise(pairs):
                terms[f"fsp.{name}.{both[0][0]}"] = Flow(name, both, dims, self.hint_weight)
        return terms
