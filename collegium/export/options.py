"""The options of an export. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from collegium.errors import RequestError

Format = Literal["safetensors", "onnx", "pt2"]
Which = Literal["last", "best"]

TOLERANCE = 1e-3
"""Largest difference of a logit that passes, in standard deviations of the original's logits."""
IMAGES = 10_000
"""Most images of the evaluation split that are compared."""


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export."""

    format: Format
    """safetensors: weights under its library's names (a folder for transformers); onnx, pt2: a
    graph that needs no code of the network."""
    normalise: Literal["outside", "inside"] = "outside"
    """Whether a graph takes images that were resized and normalised, or pixels in 0..1 of the
    run's size and does it itself."""
    int8: bool = False
    """Beside the ONNX file one in 8-bit integers, calibrated on training images."""
    allowed_drop: float = 0.02
    """Accuracy the integers may cost, as a fraction; more is refused."""
    weights: Which = "last"
    """The student after the last epoch, or that of the best epoch on validation, where the newest
    checkpoint still has it."""
    images: int = IMAGES
    """At most so many images of the evaluation split are compared, evenly spread over it."""
    threads: int | None = None
    """CPU threads; by default as many as suit the work."""

    def __post_init__(self) -> None:
        if self.int8 and self.format != "onnx":
            raise RequestError(f"--int8 is for --format onnx, not {self.format}")
        if self.normalise == "inside" and self.format == "safetensors":
            raise RequestError(
                "--normalise inside needs a graph, and safetensors holds weights alone (with mean "
                "and std beside them): use --format onnx or pt2"
            )
        if self.images < 1 or (self.threads is not None and self.threads < 1):
            raise RequestError("--images and --threads must be at least 1")
        if not 0 <= self.allowed_drop <= 1:
            raise RequestError(f"--allowed-drop is a fraction, 0 to 1, got {self.allowed_drop}")

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.format + "-best" * (self.weights == "best")
