"""The lines of Python on a model card that load the exported file."""

from collections.abc import Callable
from pathlib import Path

from collegium.data.images.pixel_scale import Scale
from collegium.errors import RequestError
from collegium.export.formats import ONNX, PT2, SAFETENSORS
from collegium.export.model import Subject
from collegium.export.tracing import IMAGES, LOGITS
from collegium.models.libraries.python_file import classes_argument
from collegium.models.user_file import user_file

_KINDS = {1: "L", 3: "RGB"}
_PILLOW = {"nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC"}


def snippet(subject: Subject, file: str) -> str:
    """Python that reads image.png and computes its logits, without collegium where possible.

    Args:
        subject: the exported student.
        file: name of its file.
    """
    if file == SAFETENSORS and subject.network.spec.startswith("hf:"):
        return _transformers(subject)
    head, load, call = _LOADERS[file](subject)
    return "\n".join([*head, "", *_pixels(subject), *_normalised(subject), "", *load, call])


def _pixels(subject: Subject) -> list[str]:
    channels, rows, columns = subject.input_shape
    shaped = "pixels[None, None]" if channels == 1 else "pixels.transpose(2, 0, 1)[None]"
    lines = _as_trained(subject, channels)
    if subject.student.image_shape[1:] != (rows, columns):
        how = _PILLOW[subject.network.preprocess.interpolation]
        lines += [f"image = image.resize(({columns}, {rows}), Image.Resampling.{how})"]
    return [*lines, "pixels = np.asarray(image, np.float32) / 255", f"images = {shaped}"]


def _as_trained(subject: Subject, channels: int) -> list[str]:
    """An image prepared as in training: upright, eight bits, cropped and scaled."""
    own, rows, columns = subject.student.image_shape
    rule = subject.student.rule
    lines = ['image = ImageOps.exif_transpose(Image.open("image.png"))']
    lines += _in_bytes(rule.scale) if rule.scale is not None else []
    if rule.alpha != "drop":
        lines += [
            f'ground = Image.new("RGBA", image.size, "{rule.alpha}")',
            'image = Image.alpha_composite(ground, image.convert("RGBA"))',
        ]
    size = f"({columns}, {rows}), Image.Resampling.BILINEAR"
    lines += [f'image = ImageOps.fit(image.convert("{_KINDS[own]}"), {size})']
    return [*lines, *[f'image = image.convert("{_KINDS[channels]}")'] * (own != channels)]


def _in_bytes(scale: Scale) -> list[str]:
    """Conversion of more than eight bits, as the run did it."""
    if scale.shift:
        return [
            f"values = np.asarray(image, np.int32).clip(0, {scale.white:g})",
            f"image = Image.fromarray((values >> {scale.shift}).astype(np.uint8))",
        ]
    factor = 255 / (scale.white - scale.black)
    return [
        f"values = (np.asarray(image, np.float64) - {scale.black:g}) * {factor!r}",
        "image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))",
    ]


def _normalised(subject: Subject) -> list[str]:
    if subject.inside:
        return []
    wanted = subject.network.preprocess
    mean, std = ([float(f"{value:.6g}") for value in part] for part in (wanted.mean, wanted.std))
    shape = "" if len(mean) == 1 else ".reshape(-1, 1, 1)"
    return [
        f"mean = np.float32({mean}){shape}",
        f"std = np.float32({std}){shape}",
        "images = (images - mean) / std",
    ]


_Parts = tuple[list[str], list[str], str]
"""Imports, lines that load the file, and the line that computes the logits."""
_NUMPY, _PILLOW_IMPORT = "import numpy as np", "from PIL import Image, ImageOps"
_TORCH = [_NUMPY, "import torch", _PILLOW_IMPORT]
_TORCH_CALL = "logits = network(torch.from_numpy(images))"


def _onnx(subject: Subject) -> _Parts:
    head = [_NUMPY, "import onnxruntime", _PILLOW_IMPORT]
    load = [f'session = onnxruntime.InferenceSession("{ONNX}")']
    return head, load, f'logits = session.run(["{LOGITS}"], {{"{IMAGES}": images}})[0]'


def _pt2(subject: Subject) -> _Parts:
    load = [f'network = torch.export.load("{PT2}").module()']
    return _TORCH, load, _TORCH_CALL


def _safetensors(subject: Subject) -> _Parts:
    imports, build = _builder(subject)
    head = [*_TORCH, "from safetensors.torch import load_file", *imports]
    load = [
        f"network = {build}",
        f'network.load_state_dict(load_file("{SAFETENSORS}"))',
        "network.eval()",
    ]
    return head, load, _TORCH_CALL


def _builder(subject: Subject) -> tuple[list[str], str]:
    """Imports, and the expression that builds the network without weights."""
    network = subject.network
    classes = len(network.classes)
    family, _, member = network.spec.partition(":")
    if subject.student.module is not None:
        return [], f"...  # your {network.spec}, which was given from Python"
    if ".py:" in network.spec:
        path, _, function = network.spec.rpartition(":")
        stem = path.rpartition("/")[2].removesuffix(".py")
        imported = [f"from {stem} import {function}  # the file is {path}"]
        return imported, f"{function}({_classes_words(path, function, classes)})"
    if family == "timm":
        words = f"num_classes={classes}{_sized(subject)}"
        return ["import timm"], f'timm.create_model("{member}", {words})'
    if family == "torchvision":
        words = f"weights=None, num_classes={classes}"
        if member.startswith("vit_") and (size := subject.network.preprocess.size):
            words += f", image_size={size[0]}"
        return ["import torchvision"], f'torchvision.models.get_model("{member}", {words})'
    if family not in ("cifar", "small"):
        raise RequestError(f"no lines load a {network.spec}")
    table = f"{family.upper()}_MODELS"
    return [f"from collegium.models.zoo.{family} import {table}"], f'{table}["{member}"]({classes})'


def _classes_words(path: str, function: str, classes: int) -> str:
    how = classes_argument(user_file(Path(path)).function(function))
    return "" if how is None else f"{how}={classes}" if how else str(classes)


def _sized(subject: Subject) -> str:
    """The size argument of a transformer that is built for one size."""
    from collegium.models.libraries.timm import takes_size

    size = subject.network.preprocess.size
    sized = size is not None and takes_size(subject.network.spec.partition(":")[2])
    return f", img_size={size}" if sized else ""


def _transformers(subject: Subject) -> str:
    lines = _as_trained(subject, subject.input_shape[0])
    numpy = [_NUMPY] if any("np." in line for line in lines) else []
    return "\n".join(
        [
            *numpy,
            _PILLOW_IMPORT,
            "from transformers import AutoImageProcessor, AutoModelForImageClassification",
            "",
            'network = AutoModelForImageClassification.from_pretrained(".")',
            'processor = AutoImageProcessor.from_pretrained(".")',
            *lines,
            'logits = network(**processor(image, return_tensors="pt")).logits',
        ]
    )


_LOADERS: dict[str, Callable[[Subject], _Parts]] = {
    SAFETENSORS: _safetensors,
    ONNX: _onnx,
    PT2: _pt2,
}
