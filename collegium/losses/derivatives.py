"""Second derivatives of losses whose backward is written by hand.

With `create_graph=True` (gradient penalties, Hessians, weightings learned by an outer loss),
autograd differentiates a hand-written backward as it is. Where that uses values saved by the
forward, and not only the inputs, the result would be silently wrong. Such a backward tests
`torch.is_grad_enabled()`, which is true only if its result may be differentiated, and then returns
the gradient of a plain form.
"""

import torch
from torch import Tensor


def derivative(plain_B: Tensor, by: Tensor, gradient_B: Tensor) -> Tensor:
    """The gradient of a loss made of plain operations, as a graph that can be differentiated.

    Args:
        plain_B: the loss, computed from `by`.
        by: the tensor it is differentiated by.
        gradient_B: the incoming gradient of the loss.
    """
    (found,) = torch.autograd.grad(plain_B, by, gradient_B, create_graph=True)
    return found
