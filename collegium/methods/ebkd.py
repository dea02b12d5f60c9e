"""EBKD: teachers weighted by the entropy of their predictions."""

from dataclasses import dataclass

from collegium.methods.choices import Mix, WeightingName
from collegium.methods.soft_target import AbstractSoftTarget


@dataclass(frozen=True)
class EBKD(AbstractSoftTarget):
    """Entropy-based weighting (EBKD): a teacher with lower entropy gets a larger weight.

    Kwon, Na, Lee, Kim, Adaptive Knowledge Distillation Based on Entropy, ICASSP 2020, 7409-7413,
    DOI 10.1109/ICASSP40776.2020.9054698. No official code; the form is that of the CA-MKD
    repository, whose weights sum to (T - 1) / T.

    Weights: w_t = (1 - H_t / sum_u H_u) / (T - 1), entropies H at temperature 1.
    Loss: label_weight CE(s, y) + alpha temperature^2 sum_t w_t KL(p_t || q).

    >>> import torch, collegium as cg
    >>> objective = cg.EBKD().build(cg.Dims(classes=2, teachers=("certain", "uncertain")))
    >>> teachers = cg.TeacherOutputs(torch.tensor([[[100.0, 0.0], [0.0, 0.0]]]))
    >>> objective.weigh(cg.StudentOutputs(torch.zeros(1, 2)), teachers, torch.tensor([1])).tolist()
    [[1.0, 0.0]]
    """

    slug = "ebkd"
    bibtex = """
        @inproceedings{kwon2020adaptive,
          title = {Adaptive Knowledge Distillation Based on Entropy},
          author = {Kwon, Kisoo and Na, Hwidong and Lee, Hoshik and Kim, Nam Soo},
          booktitle = {ICASSP}, pages = {7409--7413}, year = {2020}
        }"""
    presets = {"published": {"alpha": 1.0, "label_weight": 1.0}}  # noqa: RUF012

    weighting: WeightingName = "entropy"
    """How teachers are weighted."""
    mix: Mix | None = "loss"
    """Average the teachers' losses, or probabilities or logits into one target."""
