"""Logit regression."""

from dataclasses import dataclass

from collegium.methods.choices import LossName
from collegium.methods.soft_target import AbstractSoftTarget


@dataclass(frozen=True)
class Logits(AbstractSoftTarget):
    """Logit regression: match the mean of the teachers' raw logits by squared error.

    Ba, Caruana, Do Deep Nets Really Need to be Deep?, NIPS 2014, arXiv 1312.6184, equation 3.

    Loss: label_weight CE(s, y) + alpha / (2 C) |s - mean_t z_t|^2. It is the limit of kd at
    high temperatures, for logits of mean 0; the paper has no 1 / C and no label.

    >>> import torch, collegium as cg
    >>> objective = cg.Logits(alpha=1.0).build(cg.Dims(classes=2, teachers=("t",)))
    >>> student = cg.StudentOutputs(torch.zeros(1, 2))
    >>> teacher = cg.TeacherOutputs(torch.tensor([[[2.0, 0.0]]]))
    >>> objective(student, teacher, torch.tensor([0]))["kd"].item()
    1.0
    """

    slug = "logits"
    bibtex = """
        @inproceedings{ba2014deep,
          title = {Do Deep Nets Really Need to be Deep?},
          author = {Ba, Lei Jimmy and Caruana, Rich},
          booktitle = {Advances in Neural Information Processing Systems}, year = {2014}
        }"""
    presets = {"kd_zoo": {"alpha": 0.2, "label_weight": 1.0}}  # noqa: RUF012

    loss: LossName = "logits"
    """The loss between student and teachers."""
