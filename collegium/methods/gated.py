"""Gated weighting (ours): a gate on the student's feature, corrected by the label."""

from dataclasses import dataclass

from collegium.methods.choices import WeightingName
from collegium.methods.soft_target import AbstractSoftTarget


@dataclass(frozen=True)
class Gated(AbstractSoftTarget):
    """Gated weighting (ours): weight teachers by their true-class probability and a learned gate.

    Not from a paper. AMTML-KD's adapter follows the student's current predictions: nothing in its
    objective favours the teacher that is right. Here the student's feature beta of the example and
    a vector theta_t for each teacher give a gate g = softmax_t(bias_t + theta_t . beta), and the
    label trains the gate: it minimises -log sum_t g_t p_t(y) + 0.1 KL(equal || g), the negative log
    evidence of a mixture of the teachers. By Bayes' rule, the probability that an example came from
    teacher t given its label is proportional to g_t p_t(y). The weights are that probability, with
    the likelihood tempered and bounded away from 0: w_t ~ g_t (p_t(y) + 1 / C)^2. Equal teachers
    get equal weights, and a teacher that is wrong on an example loses weight there. The gate
    transfers what it learned in a region to examples with doubtful labels. The student gets no
    gradient through g and w.

    Loss: label_weight CE(s, y) + alpha temperature^2 KL(sum_t w_t p_t || q); plus the gate's.

    >>> import torch, collegium as cg
    >>> dims = cg.Dims(classes=2, teachers=("right", "wrong"), student_maps={"last": (4, 2, 2)})
    >>> student = cg.StudentOutputs(torch.zeros(1, 2), {"last": torch.ones(1, 4, 2, 2)})
    >>> teachers = cg.TeacherOutputs(torch.tensor([[[100.0, 0.0], [0.0, 100.0]]]))
    >>> weights = cg.Gated().build(dims).weigh(student, teachers, torch.tensor([0]))
    >>> [round(weight, 3) for weight in weights[0].tolist()]  # 1.5^2 to 0.5^2
    [0.9, 0.1]
    """

    slug = "gated"

    weighting: WeightingName = "gated"
    """How teachers are weighted."""
