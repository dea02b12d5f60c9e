"""AE-KD: adaptive ensemble distillation in gradient space."""

from dataclasses import dataclass

from collegium.methods.base import require
from collegium.methods.choices import Mix, WeightingName
from collegium.methods.soft_target import AbstractSoftTarget


@dataclass(frozen=True)
class AEKD(AbstractSoftTarget):
    """Adaptive ensemble distillation (AE-KD): batch weights that minimise gradient conflict.

    Du, You, Li, Wu, Wang, Qian, Zhang, Agree to Disagree: Adaptive Ensemble Knowledge Distillation
    in Gradient Space, NeurIPS 2020.

    Weights: argmin |sum_t w_t g_t|^2 over 0 <= w_t <= tolerance, sum w = 1, with g_t the mean
    gradient of teacher t's soft target by the student's logits. Constants in the loss.
    Loss: label_weight CE(s, y) + alpha temperature^2 sum_t w_t KL(p_t || q).

    >>> import torch, collegium as cg
    >>> objective = cg.AEKD(tolerance=1.0).build(cg.Dims(classes=2, teachers=("a", "b")))
    >>> opposed = cg.TeacherOutputs(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    >>> objective.weigh(cg.StudentOutputs(torch.zeros(1, 2)), opposed, torch.tensor([1])).tolist()
    [[0.5, 0.5]]
    """

    slug = "aekd"
    bibtex = """
        @inproceedings{du2020agree,
          title = {Agree to Disagree: Adaptive Ensemble Knowledge Distillation in Gradient Space},
          author = {Du, Shangchen and You, Shan and Li, Xiaojie and Wu, Jianlong and Wang, Fei
                    and Qian, Chen and Zhang, Changshui},
          booktitle = {Advances in Neural Information Processing Systems}, year = {2020}
        }"""
    presets = {"published": {"label_weight": 1.0}}  # noqa: RUF012

    weighting: WeightingName = "gradient"
    """How teachers are weighted; `gradient` reads `tolerance` and `normalise_gradients`."""
    mix: Mix | None = "loss"
    """Average the teachers' losses, or probabilities or logits into one target."""
    tolerance: float = 0.6
    """Largest weight, > 0; below 1/T all weights are 1/T, 1 is no limit."""
    normalise_gradients: bool = False
    """Compare directions of gradients, not their lengths."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.tolerance > 0, f"tolerance must be > 0, got {self.tolerance}")
