"""The lines of Python on a model card that load the exported file."""

from pathlib import Path

from collegium.data.images.pixel_scale import Scale
from collegium.errors import RequestError
from collegium.export.formats import ONNX, PT2, SAFETENSORS
from collegium.export.model import Subject
from collegium.export.tracing import IMAGES, LOGITS
from collegium.models.libraries.python_file import classes_argument
from collegium.models.libraries.timm import takes_size
from collegium.models.user_file import user_file

_KINDS = {1: "L", 3: "RGB"}
_NUMPY, _TORCH = "import numpy as np", "import torch"
_PILLOW_IMPORT = "from PIL import Image, ImageOps"
_LOAD_FILE = "from safetensors.torch import load_file"
_TORCH_CALL = "logits = network(torch.from_numpy(images))"
_GRAPHS = {
    ONNX: (
        "import onnxruntime",
        f'session = onnxruntime.InferenceSession("{ONNX}")',
        f'logits = session.run(["{LOGITS}"], {{"{IMAGES}": images}})[0]',
    ),
    PT2: (_TORCH, f'network = torch.export.load("{PT2}").module()', _TORCH_CALL),
}
"""Of each graph the import of its library, and the lines that load the file and call it."""


def snippet(subject: Subject, file: str) -> str:
    """Python that reads image.png and computes its logits, without collegium where possible.

    Args:
        subject: the exported student.
        file: name of its file.
    """
    if file in _GRAPHS:
        library, *load = _GRAPHS[file]
        imports = [_NUMPY, library, _PILLOW_IMPORT]
    elif subject.network.spec.startswith("hf:"):
        return _transformers(subject)
    else:
        more, build = _builder(subject)
        imports = [_NUMPY, _TORCH, _PILLOW_IMPORT, _LOAD_FILE, *more]
        load = [
            f"network = {build}",
            f'network.load_state_dict(load_file("{SAFETENSORS}"))',
            "network.eval()",
            _TORCH_CALL,
        ]
    return "\n".join([*imports, "", *_images(subject), "", *load])


def _images(subject: Subject) -> list[str]:
    """The input of the network, from the file of an image."""
    channels, rows, columns = subject.input_shape
    wanted, lines = subject.network.preprocess, _as_trained(subject)
    if subject.student.image_shape[1:] != (rows, columns):
        how = wanted.interpolation.upper()
        lines += [f"image = image.resize(({columns}, {rows}), Image.Resampling.{how})"]
    shaped = "pixels[None, None]" if channels == 1 else "pixels.transpose(2, 0, 1)[None]"
    lines += ["pixels = np.asarray(image, np.float32) / 255", f"images = {shaped}"]
    if subject.inside:
        return lines
    mean, std = ([float(f"{value:.6g}") for value in part] for part in (wanted.mean, wanted.std))
    shape = "" if len(mean) == 1 else ".reshape(-1, 1, 1)"
    lines += [f"mean = np.float32({mean}){shape}", f"std = np.float32({std}){shape}"]
    return [*lines, "images = (images - mean) / std"]


def _as_trained(subject: Subject) -> list[str]:
    """An image prepared as in training: upright, eight bits, cropped and scaled."""
    own, rows, columns = subject.student.image_shape
    rule, channels = subject.student.rule, subject.input_shape[0]
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


def _builder(subject: Subject) -> tuple[list[str], str]:
    """Imports, and the expression that builds the network without weights."""
    network = subject.network
    classes = len(network.classes)
    family, _, member = network.spec.partition(":")
    size = network.preprocess.size
    if subject.student.module is not None:
        return [], f"...  # your {network.spec}, which was given from Python"
    if ".py:" in network.spec:
        path, _, function = network.spec.rpartition(":")
        stem = path.rpartition("/")[2].removesuffix(".py")
        imported = [f"from {stem} import {function}  # the file is {path}"]
        return imported, f"{function}({_classes_words(path, function, classes)})"
    if family == "timm":
        words = f"num_classes={classes}"
        if size and takes_size(member):
            words += f", img_size={size}"
        return ["import timm"], f'timm.create_model("{member}", {words})'
    if family == "torchvision":
        words = f"weights=None, num_classes={classes}"
        if size and member.startswith("vit_"):
            words += f", image_size={size[0]}"
        return ["import torchvision"], f'torchvision.models.get_model("{member}", {words})'
    if family not in ("cifar", "small"):
        raise RequestError(f"no lines load a {network.spec}")
    table = f"{family.upper()}_MODELS"
    return [f"from collegium.models.zoo.{family} import {table}"], f'{table}["{member}"]({classes})'


def _classes_words(path: str, function: str, classes: int) -> str:
    how = classes_argument(user_file(Path(path)).function(function))
    return "" if how is None else f"{how}={classes}" if how else str(classes)


def _transformers(subject: Subject) -> str:
    lines = [
        _PILLOW_IMPORT,
        "from transformers import AutoImageProcessor, AutoModelForImageClassification",
        "",
        'network = AutoModelForImageClassification.from_pretrained(".")',
        'processor = AutoImageProcessor.from_pretrained(".")',
        *_as_trained(subject),
        'logits = network(**processor(image, return_tensors="pt")).logits',
    ]
    numpy = [_NUMPY] if any("np." in line for line in lines) else []
    return "\n".join([*numpy, *lines])
