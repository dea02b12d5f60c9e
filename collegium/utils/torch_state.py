"""Resets global settings of torch that a caller may have changed, while this library runs.

`no_grad`, `inference_mode`, `autocast`, a default dtype or a default device decide how torch
creates tensors and whether they have gradients. Under such settings of a caller, a run would be
rejected, round differently or fail with an error of torch.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def as_ever(work: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the function runs inside `torch_as_ever`."""
    return torch_as_ever()(work)


@contextlib.contextmanager
def torch_as_ever() -> Iterator[None]:
    """A context with torch's default settings; restores the caller's settings afterwards.

    The settings are: gradients enabled, default dtype float32, default device CPU, no autocast. The
    number of threads is not reset, but a change inside the context is undone at its end.
    """
    import torch  # Here, so that commands that only print do not import torch.

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
