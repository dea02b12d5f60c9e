"""A classifier that takes a view in pixels and looks at it in its own terms."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.errors import RequestError


@dataclass(frozen=True)
class Preprocess:
    """How a network wants its pixels.

    Attributes:
        mean: per channel, of pixels in 0..1; one or three numbers.
        std: per channel, > 0.
        smallest: views with fewer rows or columns are enlarged to this many (bilinear).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    smallest: int = 1

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise RequestError(
                f"a normalisation has one or three means and as many deviations, "
                f"got mean {self.mean} and std {self.std}"
            )
        if not all(value > 0 for value in self.std):
            raise RequestError(f"standard deviations must be > 0, got {self.std}")

    @property
    def channels(self) -> int:
        """1 or 3: what the network's first layer takes."""
        return len(self.mean)


class Network(nn.Module):
    """A body (any module that gives logits) behind its own normalisation and size.

    Every network of a run receives the same view, pixels in 0..1, and converts it itself.

    Args:
        body: takes normalised images (B, D, H, W), gives logits (B, C).
        preprocess: what it wants.
        classes: names, one for each logit.
        spec: the string it was built from, without weights.
    """

    def __init__(
        self, body: nn.Module, preprocess: Preprocess, classes: Sequence[str], spec: str = ""
    ) -> None:
        super().__init__()
        self.body, self.preprocess = body, preprocess
        self.classes, self.spec = tuple(classes), spec
        for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    mean: Tensor
    std: Tensor

    def prepare(self, images_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """The view as the body wants it: channels, size, normalisation."""
        if images_BDHW.shape[1] == 3 and self.preprocess.channels == 1:
            images_BDHW = images_BDHW.mean(dim=1, keepdim=True)
        rows, columns = images_BDHW.shape[2:]
        if min(rows, columns) < self.preprocess.smallest:
            scale = self.preprocess.smallest / min(rows, columns)
            images_BDHW = nn.functional.interpolate(
                images_BDHW, (round(rows * scale), round(columns * scale)), mode="bilinear"
            )
        # One grey channel broadcasts to three means.
        return (images_BDHW - self.mean) / self.std

    def forward(self, images_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B C"]:
        """Logits of a view given in pixels, 0..1."""
        logits_BC: Tensor = self.body(self.prepare(images_BDHW))
        return logits_BC


def parameter_count(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())


def weights_hash(network: nn.Module) -> str:
    """SHA-256 over every parameter and buffer: name, type, shape and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def freeze(network: Network) -> Network:
    """Evaluation mode and no gradients, for good."""
    return network.eval().requires_grad_(False)
