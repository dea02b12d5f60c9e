"""Relational knowledge distillation (RKD)."""

from dataclasses import dataclass

from collegium.methods.base import require
from collegium.methods.soft_target import AbstractFeature, Comparisons


@dataclass(frozen=True)
class RKD(AbstractFeature):
    """Relational distillation: match distances and angles between the batch's examples.

    Park, Kim, Lu, Cho, Relational Knowledge Distillation, CVPR 2019, arXiv 1904.05068,
    equations 4 to 9.

    Loss: CE(s, y) + sum_t w_t (distance_weight RKD-D + angle_weight RKD-A), times hint_weight, on
    the mean over positions of the last maps. Taken over the local batch.

    >>> import torch, collegium as cg
    >>> maps = {"one": (2, 1, 1)}
    >>> objective = cg.RKD().build(cg.Dims(2, ("t",), maps, {"t": maps}))
    >>> points = torch.randn(4, 2, 1, 1)
    >>> student = cg.StudentOutputs(torch.zeros(4, 2), {"one": points})
    >>> moved = cg.TeacherOutputs(torch.zeros(4, 1, 2), {"t": {"one": 3 * points + 5}})
    >>> terms = objective(student, moved, torch.zeros(4, dtype=torch.long))
    >>> bool(terms["distance.t"].abs().max() + terms["angle.t"].abs().max() < 1e-4)
    True
    """

    slug = "rkd"
    bibtex = """
        @inproceedings{park2019relational,
          title = {Relational Knowledge Distillation},
          author = {Park, Wonpyo and Kim, Dongju and Lu, Yan and Cho, Minsu},
          booktitle = {CVPR}, year = {2019}
        }"""

    hint_weight: float = 1.0
    """Weight of both relations together, >= 0; the teachers' weights sum to 1."""
    distance_weight: float = 25.0
    """Weight of the distances of pairs, >= 0."""
    angle_weight: float = 50.0
    """Weight of the angles of triples, >= 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.distance_weight, self.angle_weight
        require(min(weights) >= 0, f"distance_weight and angle_weight must be >= 0, got {weights}")

    def comparisons(self) -> Comparisons:
        """`distance` and `angle`, where their weights are not 0."""
        from collegium.objectives import AngleComparison, DistanceComparison

        relations = {
            "distance": (DistanceComparison, self.hint_weight * self.distance_weight),
            "angle": (AngleComparison, self.hint_weight * self.angle_weight),
        }
        return {name: relation for name, relation in relations.items() if relation[1]}
