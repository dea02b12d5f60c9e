"""Global settings of torch that a caller may have changed: replaced while this library works.

`no_grad`, `inference_mode`, `autocast`, a default dtype or a default device decide how tensors are
made and whether they have gradients. With them a run would be refused, round differently or fail
with an error of torch.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def as_ever(work: Callable[P, R]) -> Callable[P, R]:
    """A function that runs in `torch_as_ever`."""

    @functools.wraps(work)
    def undisturbed(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch_as_ever():
            return work(*args, **kwargs)

    return undisturbed


@contextlib.contextmanager
def torch_as_ever() -> Iterator[None]:
    """Inside: gradients, float32, the CPU and no autocast by default. Afterwards: as before.

    The number of threads stays the caller's until something inside chooses another.
    """
    import torch  # Late, so that a command that only prints does not load it.

    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.callback(torch.set_default_dtype, dtype)
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_default_dtype(torch.float32)
        yield
