"""Codecs of stored teacher outputs: formats with fewer bits, and the error of each.

fp32    unchanged
fp16    half the bytes; logits move by at most 2**-11 of their size (0.008 at 16)
topK    the K largest logits in fp16 and one number for the probability mass of all others
int8    feature maps only: one scale per channel, in steps of 1/127 of its largest value

Feature maps are stored channels-last, the layout of the networks that compute and use them. A loss
between maps of different layouts would take several times as long as reading the map.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from collegium.errors import RequestError

Fields = Mapping[str, NDArray[np.generic]]
"""The arrays into which a codec encodes outputs, by name; each has one row per example."""


class AbstractCodec(ABC):
    """Encodes outputs (N, ...) as fields and decodes them.

    Args:
        shape: of the output for one example, (C,) or (D, H, W).
    """

    name: str
    fields: dict[str, tuple[str, tuple[int, ...]]]
    """Data type and shape of one row of each field."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = tuple(shape)

    @abstractmethod
    def encode(self, answers_N: Tensor) -> dict[str, NDArray[np.generic]]:
        """Encode float32 outputs (N, *shape) as fields."""

    @abstractmethod
    def decode(self, fields: Fields) -> Tensor:
        """Decode fields to float32 outputs (N, *shape)."""

    def error(self, answers_N: Tensor, fields: Fields) -> float:
        """The largest absolute error of any encoded number."""
        return (self.decode(fields) - answers_N).abs().max().item()

    def _lay_out(self, answers_N: Tensor) -> Tensor:
        return answers_N.permute(0, 2, 3, 1).contiguous() if self._is_map else answers_N

    def _as_given(self, answers_N: Tensor) -> Tensor:
        return answers_N.permute(0, 3, 1, 2) if self._is_map else answers_N

    @property
    def _is_map(self) -> bool:
        return len(self.shape) == 3

    @property
    def _row_shape(self) -> tuple[int, ...]:
        return (*self.shape[1:], self.shape[0]) if self._is_map else self.shape

    @property
    def row_bytes(self) -> int:
        """Bytes of the encoded output for one example."""
        return sum(
            np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in self.fields.values()
        )


class Plain(AbstractCodec):
    """Stores float32 numbers unchanged, or rounded to half precision.

    Args:
        shape: of the output for one example.
        name: "fp32" or "fp16".
    """

    def __init__(self, shape: tuple[int, ...], name: str) -> None:
        super().__init__(shape)
        self.name = name
        self._kind = {"fp32": "<f4", "fp16": "<f2"}[name]
        self.fields = {"numbers": (self._kind, self._row_shape)}

    def encode(self, answers_N: Tensor) -> dict[str, NDArray[np.generic]]:
        """Round each number to the nearest value of the stored type."""
        with np.errstate(over="ignore"):
            return {"numbers": self._lay_out(answers_N).numpy().astype(self._kind)}

    def decode(self, fields: Fields) -> Tensor:
        """Convert the stored numbers to float32."""
        numbers = torch.from_numpy(np.ascontiguousarray(fields["numbers"]))
        return self._as_given(numbers.float())


class TopK(AbstractCodec):
    """Stores the K largest logits; the other classes share their total mass equally.

    Args:
        shape: (C,).
        largest: K, from 1 to C - 1.
    """

    def __init__(self, shape: tuple[int, ...], largest: int) -> None:
        super().__init__(shape)
        self.name, self._largest = f"top{largest}", largest
        if len(shape) != 1 or not 1 <= largest < shape[0]:
            raise RequestError(
                f"top{largest} keeps {largest} of a teacher's logits, and there are {shape[0]}; "
                f"give top1 to top{shape[0] - 1}, or fp16"
            )
        kind = "<u2" if shape[0] <= 1 << 16 else "<u4"
        self.fields = {"values": ("<f2", (largest,)), "classes": (kind, (largest,))}
        self.fields["rest"] = ("<f2", ())

    def encode(self, answers_N: Tensor) -> dict[str, NDArray[np.generic]]:
        """Keep the K largest logits and the log-sum-exp of the others."""
        values, classes = answers_N.topk(self._largest, dim=1)
        others = answers_N.scatter(1, classes, -torch.inf)
        arrays = {"values": values, "classes": classes, "rest": others.logsumexp(dim=1)}
        kinds = {name: kind for name, (kind, _) in self.fields.items()}
        with np.errstate(over="ignore"):
            return {name: array.numpy().astype(kinds[name]) for name, array in arrays.items()}

    def decode(self, fields: Fields) -> Tensor:
        """Restore the K stored logits; all other classes get equal shares of the remaining mass."""
        rest = torch.from_numpy(fields["rest"].astype(np.float32))
        share = rest - float(np.log(self.shape[0] - self._largest))
        answers = share[:, None].repeat(1, self.shape[0])
        classes = torch.from_numpy(fields["classes"].astype(np.int64))
        return answers.scatter(1, classes, torch.from_numpy(fields["values"].astype(np.float32)))

    def error(self, answers_N: Tensor, fields: Fields) -> float:
        """The largest KL(original || decoded) of the softmax of any example, in nats."""
        true, kept = answers_N.log_softmax(1), self.decode(fields).log_softmax(1)
        return (true.exp() * (true - kept)).sum(1).max().item()


class Int8(AbstractCodec):
    """Stores feature maps as codes from -127 to 127, with a scale for each channel and example."""

    name = "int8"

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.fields = {"codes": ("|i1", self._row_shape), "scale": ("<f2", shape[:1])}

    def encode(self, answers_N: Tensor) -> dict[str, NDArray[np.generic]]:
        """Round to the nearest step; scales are rounded up so that no code exceeds 127."""
        exact = answers_N.flatten(2).abs().amax(2) / 127
        scale = exact.half()
        # Adding 1 to the bits of a positive half-precision number gives the next larger one.
        scale = (scale.view(torch.int16) + (scale.float() < exact)).view(torch.half)
        steps = scale.float().clamp_min(1e-30)[..., None, None]
        codes = (answers_N / steps).round().clamp(-127, 127).to(torch.int8)
        return {"codes": self._lay_out(codes).numpy(), "scale": scale.numpy()}

    def decode(self, fields: Fields) -> Tensor:
        """Multiply the codes by their scales."""
        scale = torch.from_numpy(fields["scale"].astype(np.float32))
        codes = torch.from_numpy(np.ascontiguousarray(fields["codes"]))
        return self._as_given(codes * scale[:, None, None])


def make_codec(name: str, shape: tuple[int, ...]) -> AbstractCodec:
    """Create the codec with this name for outputs of this shape.

    Raises:
        RequestError: no codec has this name, or the codec does not support the shape.
    """
    if name in ("fp32", "fp16"):
        return Plain(shape, name)
    if name == "int8" and len(shape) == 3:
        return Int8(shape)
    if name.startswith("top") and name[3:].isdecimal():
        return TopK(shape, int(name[3:]))
    kinds = "fp16, fp32 or int8" if len(shape) == 3 else "fp16, fp32 or topK with a number K"
    raise RequestError(f"answers cannot be stored as {name!r}; give {kinds}")
