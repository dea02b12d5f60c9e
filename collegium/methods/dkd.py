"""Decoupled knowledge distillation (DKD)."""

from dataclasses import dataclass

from collegium.methods.choices import LossName
from collegium.methods.soft_target import AbstractSoftTarget

_PUBLISHED = {"alpha": 1.0, "label_weight": 1.0, "warmup": 20 / 240, "weighting": "best"}


@dataclass(frozen=True)
class DKD(AbstractSoftTarget):
    """Decoupled knowledge distillation: weight the true class and the other classes separately.

    Zhao, Cui, Song, Qiu, Liang, Decoupled Knowledge Distillation, CVPR 2022, arXiv 2203.08679,
    equation 7.

    Loss: label_weight CE(s, y) + alpha temperature^2 sum_t w_t (target_class KL(b_t || b_s) +
    other_classes KL(rest_t || rest_s)), b = (p_y, 1 - p_y), rest = p without y, normalised to
    sum 1. It uses all teachers; the paper uses one (preset `published`).

    >>> import torch, collegium as cg
    >>> dims = cg.Dims(classes=2, teachers=("t",))  # two classes: only the first part
    >>> objective = cg.DKD(temperature=1.0, alpha=1.0).build(dims)
    >>> student = cg.StudentOutputs(torch.zeros(1, 2))
    >>> certain = cg.TeacherOutputs(torch.tensor([[[100.0, 0.0]]]))
    >>> round(objective(student, certain, torch.tensor([0]))["kd"].item(), 4)  # ln 2
    0.6931
    """

    slug = "dkd"
    bibtex = """
        @inproceedings{zhao2022decoupled,
          title = {Decoupled Knowledge Distillation},
          author = {Zhao, Borui and Cui, Quan and Song, Renjie and Qiu, Yiyu and Liang, Jiajun},
          booktitle = {CVPR}, year = {2022}
        }"""
    presets = {  # noqa: RUF012 - a class constant
        "published": _PUBLISHED,
        "standardised": {**_PUBLISHED, "alpha": 9.0, "temperature": 2.0, "standardise": True},
    }

    loss: LossName = "dkd"
    """The loss between student and teachers."""
