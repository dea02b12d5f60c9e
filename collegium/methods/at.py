"""Attention transfer (AT)."""

from dataclasses import dataclass

from collegium.methods.soft_target import AbstractFeature, Comparisons


@dataclass(frozen=True)
class AT(AbstractFeature):
    """Attention transfer: match the student's spatial attention maps to each teacher's.

    Zagoruyko, Komodakis, Paying More Attention to Attention, ICLR 2017, arXiv 1612.03928,
    section 3.1.

    Loss: CE(s, y) + hint_weight sum_t w_t sum over layers mean (a(F_s) - a(F_t))^2, where a is the
    mean square over channels, normalised to length 1 over positions.

    >>> import torch, collegium as cg
    >>> maps = {"one": (2, 1, 2)}
    >>> objective = cg.AT(hint_weight=1.0).build(cg.Dims(2, ("t",), maps, {"t": maps}))
    >>> left, right = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> student = cg.StudentOutputs(torch.zeros(1, 2), {"one": left.expand(1, 2, 1, 2)})
    >>> theirs = {"t": {"one": right.expand(1, 2, 1, 2)}}
    >>> teacher = cg.TeacherOutputs(torch.zeros(1, 1, 2), theirs)
    >>> objective(student, teacher, torch.tensor([0]))["at.t"].item()
    1.0
    """

    slug = "at"
    bibtex = """
        @inproceedings{zagoruyko2017paying,
          title = {Paying More Attention to Attention},
          author = {Zagoruyko, Sergey and Komodakis, Nikos},
          booktitle = {ICLR}, year = {2017}
        }"""
    presets = {"published": {"hint_weight": 1000.0}}  # noqa: RUF012 - a class constant
    student_layers = "all"

    hint_weight: float = 10.0
    """Weight of the attention maps, >= 0; the teachers' weights sum to 1. Public code has 1000."""

    def comparisons(self) -> Comparisons:
        """One, `at`."""
        from collegium.objectives import AttentionComparison

        return {"at": (AttentionComparison, self.hint_weight)}
