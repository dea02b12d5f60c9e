"""Numbers that go wrong stop a run, with the name of what went wrong and the step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from collegium.errors import NumericsError
from collegium.objective import Terms
from collegium.types import Batch, TeacherOutputs


def check_answers(answers: TeacherOutputs, names: Sequence[str], batch: Batch, step: int) -> None:
    """Stop before the student learns nonsense.

    Raises:
        NumericsError: naming the first teacher that gave it, the step and an example.
    """
    if torch.isfinite(answers.logits_BTC).all():
        return
    bad_BT = ~torch.isfinite(answers.logits_BTC).all(dim=2)
    name = names[int(bad_BT.any(dim=0).nonzero()[0])]
    raise NumericsError(
        f"teacher {name} gave NaN or infinite logits at step {step} for example "
        f"{int(batch.index_B[bad_BT.any(dim=1)][0])}; stopped before the student learnt it"
    )


def check_loss(
    loss: Tensor, terms: Terms, logits_BC: Tensor, step: int, last_good: str, learning_rate: float
) -> None:
    """Stop before a loss that is no number reaches the parameters.

    Raises:
        NumericsError: naming the terms and the step.
    """
    if torch.isfinite(loss):
        return
    bad = [name for name, term_B in terms.items() if not torch.isfinite(term_B).all()]
    cause = "the loss" if torch.isfinite(logits_BC).all() else "the student's logits"
    raise NumericsError(
        f"{cause} became NaN or infinite at step {step} (terms: {', '.join(bad)}); {last_good}; "
        f"a lower --lr than {learning_rate:g} usually helps"
    )


def check_state(learner: nn.Module, step: int, last_good: str) -> None:
    """Stop before a broken student is saved: the last step of an epoch shows in no loss.

    Raises:
        NumericsError: naming the first parameter or buffer and the step.
    """
    for name, value in learner.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise NumericsError(f"{name} became NaN or infinite at step {step}; {last_good}")
