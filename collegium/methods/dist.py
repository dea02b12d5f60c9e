"""DIST: distillation by correlations."""

from dataclasses import dataclass

from collegium.methods.choices import LossName
from collegium.methods.soft_target import AbstractSoftTarget


@dataclass(frozen=True)
class DIST(AbstractSoftTarget):
    """DIST: match correlations between classes and between the batch's examples.

    Huang, You, Wang, Qian, Xu, Knowledge Distillation from A Stronger Teacher, NeurIPS 2022,
    arXiv 2205.10536, equations 6 to 9.

    Loss: label_weight CE(s, y) + alpha temperature^2 (between_classes (1 - correlation of an
    example's probabilities) + between_examples (1 - correlation of a class's, mean over classes)).
    The target is the teachers' mean; the second part is taken over the local batch.

    >>> import torch, collegium as cg
    >>> objective = cg.DIST(alpha=1.0, temperature=1.0).build(cg.Dims(3, ("t",)))
    >>> logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 2.0, -1.0]])
    >>> same = cg.StudentOutputs(logits), cg.TeacherOutputs(logits[:, None])
    >>> round(objective(*same, torch.tensor([0, 1]))["kd"].abs().max().item(), 4)
    0.0
    """

    slug = "dist"
    bibtex = """
        @inproceedings{huang2022knowledge,
          title = {Knowledge Distillation from A Stronger Teacher},
          author = {Huang, Tao and You, Shan and Wang, Fei and Qian, Chen and Xu, Chang},
          booktitle = {Advances in Neural Information Processing Systems}, year = {2022}
        }"""
    presets = {  # noqa: RUF012 - a class constant
        "published": {"alpha": 1.0, "label_weight": 1.0, "temperature": 1.0, "weighting": "best"}
    }

    loss: LossName = "dist"
    """The loss between student and teachers."""
