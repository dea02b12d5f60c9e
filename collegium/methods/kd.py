"""Knowledge distillation (KD) from one teacher."""

from dataclasses import dataclass

from collegium.methods.choices import WeightingName
from collegium.methods.soft_target import STANDARDISED, AbstractSoftTarget


@dataclass(frozen=True)
class KD(AbstractSoftTarget):
    """Knowledge distillation: match the softened outputs of one teacher, by default the best.

    Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, arXiv 1503.02531,
    section 2. The best teacher is the most accurate on validation. With another weighting it is the
    same loss on all teachers. Much public code gives the label 1 - alpha, as Zagoruyko,
    Komodakis, attention-transfer (that preset).

    Loss: label_weight CE(s, y) + alpha temperature^2 KL(p || q), softened on both sides.

    >>> import torch, collegium as cg
    >>> dims = cg.Dims(classes=2, teachers=("t",))
    >>> objective = cg.KD(temperature=1.0, alpha=1.0).build(dims)
    >>> student = cg.StudentOutputs(torch.zeros(1, 2))
    >>> certain = cg.TeacherOutputs(torch.tensor([[[100.0, 0.0]]]))  # KL of (1, 0) from (1/2, 1/2)
    >>> round(objective(student, certain, torch.tensor([0]))["kd"].item(), 4)  # ln 2
    0.6931
    """

    slug = "kd"
    bibtex = """
        @misc{hinton2015distilling,
          title = {Distilling the Knowledge in a Neural Network},
          author = {Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff},
          year = {2015}, eprint = {1503.02531}, archivePrefix = {arXiv}
        }"""
    presets = {  # noqa: RUF012 - a class constant
        "attention_transfer": {"label_weight": None},
        "standardised": STANDARDISED,
    }

    weighting: WeightingName = "best"
    """How teachers are weighted: one alone, all equally, at random, or for each example."""
