"""Checks whether low precision is slow on this machine."""

import torch

from collegium.config.options import Machine


def cpu_computes_bfloat16() -> bool:
    """Whether this CPU has bfloat16 arithmetic; without it bfloat16 is many times slower.

    Returns True if torch is built without oneDNN, because then the CPU cannot be queried.
    """
    if not torch.backends.mkldnn.is_available():
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def notes_on(machine: Machine) -> tuple[str, ...]:
    """Notes for the user: a warning if the chosen precision is slow on this machine."""
    on_cpu = machine.accelerator == "cpu" or not torch.accelerator.is_available()
    if machine.precision != "bf16" or not on_cpu or cpu_computes_bfloat16():
        return ()
    return (
        "this processor has no bfloat16 arithmetic: --precision bf16 takes many times as long as "
        "--precision 32",
    )
