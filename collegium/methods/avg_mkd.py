"""AvgMKD: the uniform mean of the teachers, the control for every adaptive weighting."""

from dataclasses import dataclass

from collegium.methods.soft_target import STANDARDISED, AbstractSoftTarget


@dataclass(frozen=True)
class AvgMKD(AbstractSoftTarget):
    """Averaged distillation (AvgMKD): match the uniform mean of the teachers' softened outputs.

    AMTML-KD's Figure 3 calls it AvgMKD, CA-MKD calls it AVER; for the mean of posteriors as
    an ensemble see Dietterich, Ensemble Methods in Machine Learning, MCS 2000.

    Loss: label_weight CE(s, y) + alpha temperature^2 KL(mean_t p_t || q).

    >>> import torch, collegium as cg
    >>> dims = cg.Dims(classes=2, teachers=("a", "b"))
    >>> objective = cg.AvgMKD(temperature=1.0, alpha=1.0).build(dims)
    >>> student = cg.StudentOutputs(torch.zeros(1, 2))
    >>> opposed = cg.TeacherOutputs(torch.tensor([[[100.0, 0.0], [0.0, 100.0]]]))
    >>> round(objective(student, opposed, torch.tensor([0]))["kd"].item(), 4)  # (1/2, 1/2) both
    0.0
    """

    slug = "avg_mkd"
    bibtex = """
        @inproceedings{dietterich2000ensemble,
          title = {Ensemble Methods in Machine Learning},
          author = {Dietterich, Thomas G.},
          booktitle = {Multiple Classifier Systems}, year = {2000}
        }"""
    presets = {  # noqa: RUF012 - a class constant
        "aver": {"mix": "loss", "alpha": 1.0, "label_weight": 1.0},
        "standardised": STANDARDISED,
    }
