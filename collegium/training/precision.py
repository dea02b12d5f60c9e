"""What low precision costs on this machine."""

import torch

from collegium.config.options import Machine


def cpu_computes_bfloat16() -> bool:
    """Whether this processor has arithmetic in bfloat16; without it takes many times as long.

    Where torch is built without oneDNN nobody can tell, and nothing is said against it.
    """
    if not torch.backends.mkldnn.is_available():
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def notes_on(machine: Machine) -> tuple[str, ...]:
    """What should be known before anything is computed so: a precision that costs time here."""
    on_cpu = machine.accelerator == "cpu" or not torch.accelerator.is_available()
    if machine.precision != "bf16" or not on_cpu or cpu_computes_bfloat16():
        return ()
    return (
        "this processor has no bfloat16 arithmetic: --precision bf16 takes many times as long as "
        "--precision 32",
    )
