"""A classifier with its own preprocessing: size, channels and normalisation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from collegium.errors import RequestError, UnknownNameError
from collegium.models.key_matching import LoadingReport
from collegium.models.outputs import logits_of
from collegium.models.state import hash_state
from collegium.models.user_modules import first_tensor
from collegium.types import MapShape

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
CHANNEL_ORDERS = ("rgb", "bgr")
SEES_GREY = (
    "sees grey: the channels of each image are averaged and its colours are lost; a network of "
    "three channels keeps them, like those of cifar:"
)


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of a network.

    Attributes:
        mean: per channel, of pixels in 0..1; one or three numbers.
        std: per channel, > 0.
        smallest: views with fewer rows or columns are enlarged to this many (bilinear).
        size: rows and columns every view is brought to; None takes views of any size.
        resize: what a view is resized to before its centre of `size` is cut out: rows and columns,
            or the shorter side alone, where the ratio of sides is kept; None cuts nothing off.
        interpolation: how, "nearest", "bilinear" or "bicubic"; the latter two average where they
            make smaller.
        channel_order: "rgb", or "bgr" for networks that were trained with blue first.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    smallest: int = 1
    size: tuple[int, int] | None = None
    interpolation: str = "bilinear"
    channel_order: str = "rgb"
    resize: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise RequestError(
                f"a normalisation has one or three means and as many deviations, "
                f"got mean {self.mean} and std {self.std}"
            )
        if not all(value > 0 for value in self.std):
            raise RequestError(f"standard deviations must be > 0, got {self.std}")
        if self.size is not None and min(self.size) < 1:
            raise RequestError(f"a size is rows and columns of at least 1, got {self.size}")
        if self.resize is not None and not _holds(self.resize, self.size):
            raise RequestError(
                f"the centre of size {self.size} cannot be cut out of {self.resize}: resize is "
                "one or two numbers, none below those of size"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise UnknownNameError("interpolation", self.interpolation, INTERPOLATIONS)
        if self.channel_order not in CHANNEL_ORDERS:
            raise UnknownNameError("channel order", self.channel_order, CHANNEL_ORDERS)

    @property
    def channels(self) -> int:
        """1 or 3: what the network's first layer takes."""
        return len(self.mean)

    @property
    def resizing(self) -> str:
        """How views are resized, for messages; empty if they keep their size.

        >>> Preprocess((0.5,), (0.5,), size=(224, 224)).resizing
        '224x224 bilinear'
        """
        sized = "" if self.size is None else f"{self.size[0]}x{self.size[1]} {self.interpolation}"
        if self.resize is not None:
            of = "x".join(map(str, self.resize))
            sized += f", the centre of {of}" + " (shorter side)" * (len(self.resize) == 1)
        return f"{sized} BGR".strip() if self.channel_order == "bgr" else sized

    def metadata(self) -> dict[str, str]:
        """The same as metadata of a weights file."""
        metadata = {key: _joined(getattr(self, key)) for key in ("mean", "std")}
        if self.size is not None:
            metadata |= {"size": _joined(self.size), "interpolation": self.interpolation}
        if self.resize is not None:
            metadata["resize"] = _joined(self.resize)
        if self.channel_order != "rgb":
            metadata["channel_order"] = self.channel_order
        return metadata

    def for_views(self, rows: int, columns: int) -> "Preprocess":
        """The same for views of one size, without what makes no difference to them."""
        if self.resize is None or rows != columns:
            return self
        first, last = self.resize[0], self.resize[-1]
        resize = None if (first, last) == self.size else (first, last)
        return replace(self, resize=resize)


def _holds(resize: tuple[int, ...], size: tuple[int, int] | None) -> bool:
    """Whether a centre of this size can be cut out of it."""
    if size is None or len(resize) not in (1, 2):
        return False
    return resize[0] >= size[0] and resize[-1] >= size[1]


def parse_size(text: str) -> tuple[int, int]:
    """Rows and columns from "224" or "224 160".

    Raises:
        ValueError: it is neither.
    """
    rows, columns = [int(part) for part in text.split()] * (2 if " " not in text.strip() else 1)
    return rows, columns


def requested_size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """The size that the options or the metadata ask for; None where there is none.

    None too where it is no size: that is refused where all options of preprocessing are read.
    """
    try:
        return parse_size(metadata["size"]) if "size" in metadata else None
    except ValueError:
        return None


def size_before_crop(resize: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns a view is resized to before its centre is cut out.

    >>> size_before_crop((48,), (30, 40)), size_before_crop((48, 48), (30, 40))
    ((48, 64), (48, 48))
    """
    if len(resize) == 2:
        return resize[0], resize[1]
    shorter = min(shape)
    rows, columns = (side * resize[0] // shorter for side in shape)
    return rows, columns


def _joined(numbers: Sequence[float | int]) -> str:
    return " ".join(f"{value:.6g}" for value in numbers)


@dataclass(frozen=True)
class Origin:
    """Where a network came from.

    Attributes:
        classes: the names its weights or its configuration have for its classes. Where they have
            none the network's `classes` are the data's, or places ("output 3") where it has
            another number.
        trained: whether weights were loaded.
        loading: how its weights file fitted; None where no file was loaded.
        notes: what a user should know of how it was loaded.
        metadata: what a weights file of it needs besides the usual to build it again.
        licence: of its weights, as their file or their library states it; else empty.
        code: digests of the user's sources that it is made by, by file; empty for a library's.
        doubts: what a user is warned of: it may not be what was trained.
    """

    classes: tuple[str, ...] = ()
    trained: bool = False
    loading: LoadingReport | None = None
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    code: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


class Network(nn.Module):
    """A body (any module that gives logits) behind its own normalisation and size.

    Every network of a run receives the same view, pixels in 0..1, and converts it itself.

    Args:
        body: takes normalised images (B, D, H, W), gives logits (B, C).
        preprocess: what it wants.
        classes: names, one for each logit.
        spec: the string it was built from, without weights.
        origin: where it came from.

    Attributes:
        gives: what the body gives: "logits", or "probabilities" whose logarithms are taken.
    """

    def __init__(
        self,
        body: nn.Module,
        preprocess: Preprocess,
        classes: Sequence[str],
        spec: str = "",
        origin: Origin | None = None,
    ) -> None:
        super().__init__()
        self.body, self.preprocess = body, preprocess
        self.classes, self.spec = tuple(classes), spec
        self.origin = origin or Origin()
        self.gives = "logits"
        for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self._dtype = _other_dtype(body)

    mean: Tensor
    std: Tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Network":
        super()._apply(fn, recurse)
        self._dtype = _other_dtype(self.body)
        return self

    def note(self, *notes: str) -> None:
        """Add to what a user should know of how it was loaded."""
        self.origin = replace(self.origin, notes=(*self.origin.notes, *notes))

    def doubt(self, text: str) -> None:
        """Add to what a user is warned of."""
        self.origin = replace(self.origin, doubts=(*self.origin.doubts, text))

    def note_grey(self, image_shape: MapShape) -> None:
        """Note that a network of one channel loses the colours of such images."""
        if self.preprocess.channels < image_shape[0]:
            self.note(SEES_GREY)

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
        if self.preprocess.size is not None:
            images_BDHW = self._sized(images_BDHW, self.preprocess.size)
        if self.preprocess.channel_order == "bgr":
            images_BDHW = images_BDHW.flip(1)
        # One grey channel broadcasts to three means.
        images_BDHW = (images_BDHW - self.mean) / self.std
        return images_BDHW if self._dtype is None else images_BDHW.to(self._dtype)

    def _sized(self, images_BDHW: Tensor, size: tuple[int, int]) -> Tensor:
        """Resized, and the centre cut out where its library does that."""
        wanted = size
        if self.preprocess.resize is not None:
            wanted = size_before_crop(self.preprocess.resize, tuple(images_BDHW.shape[2:]))
        if tuple(images_BDHW.shape[2:]) != wanted:
            images_BDHW = self._resized(images_BDHW, wanted)
        top, left = ((full - part) // 2 for full, part in zip(wanted, size, strict=True))
        return images_BDHW[:, :, top : top + size[0], left : left + size[1]]

    def _resized(self, images_BDHW: Tensor, size: tuple[int, int]) -> Tensor:
        how = self.preprocess.interpolation
        if how == "nearest":
            # Of a pixel the middle counts, as in Pillow.
            return nn.functional.interpolate(images_BDHW, size, mode="nearest-exact")
        resized_BDHW = nn.functional.interpolate(images_BDHW, size, mode=how, antialias=True)
        # Cubic curves overshoot; in training, images were clipped to the range of pixels.
        return resized_BDHW.clamp(0, 1) if how == "bicubic" else resized_BDHW

    def forward(self, images_BDHW: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B C"]:
        """Logits of a view given in pixels, 0..1."""
        output_BC = logits_of(self.body(self.prepare(images_BDHW)), self.spec, self.training)
        if self.gives == "logits":
            return output_BC
        # Logits are known up to a constant in each row, which a softmax takes away again.
        return output_BC.clamp_min(torch.finfo(output_BC.dtype).tiny).log()


def _other_dtype(body: nn.Module) -> torch.dtype | None:
    """What images are converted to for a body; None for float32, which they have."""
    found = first_tensor(body)
    return None if found is None or found.dtype == torch.float32 else found.dtype


def parameter_count(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())


def weights_hash(network: nn.Module) -> str:
    """SHA-256 over every parameter and saved buffer: name, type, shape and bytes; and extra state.

    A network that is a file and no tensors of ours (ONNX) has the hash of that file.
    """
    if (digest := getattr(getattr(network, "body", network), "file_sha256", None)) is not None:
        return str(digest)
    return hash_state(network)


def body_of(network: nn.Module) -> nn.Module:
    """The module whose hidden layers have names: the body of a `Network`, else the module."""
    return network.body if isinstance(network, Network) else network
