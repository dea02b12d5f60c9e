"""Similarity-preserving distillation (SP)."""

from dataclasses import dataclass

from collegium.methods.soft_target import AbstractFeature, Comparisons


@dataclass(frozen=True)
class SP(AbstractFeature):
    """Similarity-preserving distillation: match the similarities between the batch's examples.

    Tung, Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019, arXiv 1907.09682,
    equations 1 to 4.

    Loss: CE(s, y) + hint_weight sum_t w_t |G_s - G_t|^2 / B^2, where G are the products of the
    examples' last maps, rows of length 1. Taken over the local batch.

    >>> import torch, collegium as cg
    >>> maps = {"one": (2, 1, 1)}
    >>> objective = cg.SP(hint_weight=1.0).build(cg.Dims(2, ("t",), maps, {"t": maps}))
    >>> points = torch.eye(2)[:, :, None, None]
    >>> student = cg.StudentOutputs(torch.zeros(2, 2), {"one": points})
    >>> teacher = cg.TeacherOutputs(torch.zeros(2, 1, 2), {"t": {"one": 3 * points}})
    >>> objective(student, teacher, torch.tensor([0, 1]))["sp.t"].tolist()
    [0.0, 0.0]
    """

    slug = "sp"
    bibtex = """
        @inproceedings{tung2019similarity,
          title = {Similarity-Preserving Knowledge Distillation},
          author = {Tung, Frederick and Mori, Greg},
          booktitle = {ICCV}, year = {2019}
        }"""
    presets = {"published": {"hint_weight": 3000.0}}  # noqa: RUF012 - a class constant

    hint_weight: float = 300.0
    """Weight of the similarities, >= 0; the teachers' weights sum to 1. Public code has 3000."""

    def comparisons(self) -> Comparisons:
        """One, `sp`."""
        from collegium.objectives import SimilarityComparison

        return {"sp": (SimilarityComparison, self.hint_weight)}
