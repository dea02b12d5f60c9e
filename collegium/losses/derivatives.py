"""Second derivatives of losses whose backward is written by hand.

A hand-written backward is differentiated again (`create_graph=True`: gradient penalties, Hessians,
learned weights of an outer loss) as it stands. Where it uses what it has kept of the forward, and
not the inputs alone, that would be silently wrong. Such a backward asks `torch.is_grad_enabled()`,
which is true only if its result may be differentiated, and then gives the gradient of a plain form.
"""

import torch
from torch import Tensor


def derivative(plain_B: Tensor, by: Tensor, gradient_B: Tensor) -> Tensor:
    """The gradient of a loss made of plain operations, as a graph that can be differentiated.

    Args:
        plain_B: the loss, computed from `by`.
        by: what it is differentiated by.
        gradient_B: of whatever is made of the loss.
    """
    (found,) = torch.autograd.grad(plain_B, by, gradient_B, create_graph=True)
    return found
