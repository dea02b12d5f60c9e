"""One case of the golden tensors: values and gradients computed by official code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DTYPES = [torch.float64, torch.float32]


class Case:
    """One golden case: inputs as leaves that ask for gradients, and what is expected."""

    def __init__(self, folder: Path, name: str, dtype: torch.dtype) -> None:
        cases = json.loads((folder / "cases.json").read_text())["cases"]
        self.doc = next(case for case in cases if case["id"] == name)
        self.settings, self.dtype = self.doc["settings"], dtype
        arrays = np.load(folder / self.doc["file"])
        self.inputs: dict[str, Tensor] = {}
        for key in arrays.files:
            if key.startswith("in."):
                value = torch.from_numpy(arrays[key])
                value = value.to(dtype).requires_grad_() if value.is_floating_point() else value
                self.inputs[key[3:]] = value
        self.expected: dict[str, Any] = {
            key[4:]: arrays[key] for key in arrays.files if key.startswith("out.")
        } | self.doc["expected"]

    def __getitem__(self, name: str) -> Tensor:
        return self.inputs[name]

    def several(self, stem: str) -> list[Tensor]:
        """The inputs stem_0, stem_1, ..."""
        names = sorted(name for name in self.inputs if name.startswith(f"{stem}_"))
        return [self.inputs[name] for name in names]

    def check(self, name: str, value: Tensor) -> None:
        """Compare one output within the case's own tolerance."""
        expected = np.asarray(self.expected[name])
        rule = self.doc["tolerance"]
        if self.dtype == torch.float64:
            relative, absolute = rule["float64_rtol"], rule["float64_atol"]
        else:
            per_output = rule["float32_rtol_by_output"]
            relative = per_output.get(name, rule["float32_rtol"])
            absolute = rule["float32_atol"]
        error = np.abs(value.detach().double().numpy().reshape(expected.shape) - expected).max()
        limit = absolute + relative * np.abs(expected).max()
        assert error <= limit, f"{name}: error {error:.3g} over {limit:.3g}"

    def check_loss(self, loss: Tensor) -> None:
        """Compare the loss and its gradient by every input that has one."""
        self.check("loss", loss)
        names = [key[5:] for key in self.expected if key.startswith("grad.")]
        leaves = [self.inputs[name] for name in names]
        for name, gradient in zip(names, torch.autograd.grad(loss, leaves), strict=True):
            self.check(f"grad.{name}", gradient)
