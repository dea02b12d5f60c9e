"""What a caller may have set for all of torch, put aside while this library works.

`no_grad`, `inference_mode`, `autocast`, a default type of numbers or a default device decide how
tensors are made and what is remembered of them: a run would be refused, round otherwise or end in
an error of torch's own.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def as_ever(work: Callable[P, R]) -> Callable[P, R]:
    """A function that runs with torch's own defaults, whatever its caller has set."""

    @functools.wraps(work)
    def undisturbed(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch_as_ever():
            return work(*args, **kwargs)

    return undisturbed


@contextlib.contextmanager
def torch_as_ever() -> Iterator[None]:
    """Gradients, float32, the CPU and no autocast by default inside; afterwards as it was."""
    import torch  # A command line that only prints should not wait for it.

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
        torch.set_default_dtype(torch.float32)
        yield
