"""Our own weighting: a gate on the student's feature, corrected by the label."""

from dataclasses import dataclass

from collegium.methods.soft_target import AbstractSoftTarget, WeightingName


@dataclass(frozen=True)
class Gated(AbstractSoftTarget):
    """Teachers weighted by what they give the true class and by a gate on the student's feature.

    Ours, not a paper's. AMTML-KD's adapter follows what the student already says: nothing in its
    objective favours the teacher that is right. Here each teacher keeps its latent vector theta_t,
    which meets the student's feature beta of the example in a gate
    g = softmax_t(bias_t + theta_t . beta), and the gate is trained by the label: it goes down
    -log sum_t g_t p_t(y) + 0.1 KL(equal || g), the evidence of a mixture whose parts are the
    teachers. By Bayes' rule, the probability that an example came from teacher t given its label is
    then proportional to g_t p_t(y); the weights are that, with the likelihood tempered and kept
    off 0: w_t ~ g_t (p_t(y) + 1 / C)^2. Equal teachers get equal weights, a teacher that is wrong
    loses its weight on the example, and g carries to examples with doubtful labels what was learnt
    of whole regions. g and w are constants for the student.

    Loss: label_weight CE(s, y) + alpha temperature^2 KL(sum_t w_t p_t || q); the gate's own beside.

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
    """Who is heard how much."""
