"""Optional libraries (installed, missing or broken), and files of the Hugging Face hub."""

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from collegium.errors import RequestError, WeightsError
from collegium.utils.text import first_line

EXTRAS = {
    "timm": "timm",
    "torchvision": "torchvision",
    "hf": "transformers",
    "onnx": "onnxruntime",
    "hub": "datasets",
    "tensorboard": "tensorboard",
}
"""The library behind each extra."""


def import_extra(extra: str, library: str = "") -> ModuleType:
    """The library of an extra.

    Args:
        extra: its name.
        library: another one of those it brings.

    Raises:
        RequestError: it is not installed, or cannot be imported; the message gives the fix.
    """
    library = library or EXTRAS[extra]
    if importlib.util.find_spec(library) is None:
        fix = f'pip install "collegium[{extra}]"'
        raise RequestError(f"{extra}: needs {library}, which is not installed: {fix}")
    try:
        return importlib.import_module(library)
    except Exception as error:
        fix = f'reinstall it: pip install --force-reinstall "collegium[{extra}]"'
        reason = f"{library} cannot be imported: {first_line(error)}; {fix}"
        raise RequestError(broken_torchvision() or reason) from error


def broken_torchvision() -> str:
    """Why an installed torchvision is broken, and the fix; empty if it works.

    torchvision brings compiled operators that fit one build of torch only. With another build it
    is installed and cannot be imported, and neither can timm or the image models of transformers.
    """
    if importlib.util.find_spec("torchvision") is None:
        return ""
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        torch, torchvision = (_version(name) for name in ("torch", "torchvision"))
        return (
            f"torchvision {torchvision} is installed but broken beside torch {torch} "
            f"({first_line(error)}): it is made for another build of torch. Install both by one "
            "command from one index (both for CPU, or both for CUDA), or remove it: pip uninstall "
            "torchvision (timm and torchvision: models need it, hf: models do not)"
        )
    return ""


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names, with its number after each that stands there twice ("crane" is two ImageNet classes).

    >>> unique_names(["crane", "tench", "crane"])
    ('crane (0)', 'tench', 'crane (2)')
    """
    counts = Counter(names)
    return tuple(n if counts[n] == 1 else f"{n} ({place})" for place, n in enumerate(names))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"


def hub_file(repository: str, name: str) -> Path:
    """A file of a model on the Hugging Face hub: from the local cache, else downloaded.

    Raises:
        WeightsError: it is not in the cache and cannot be had.
    """
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(repository, name)
    if isinstance(cached, str):
        return Path(cached)
    with reaching(repository):
        return Path(huggingface_hub.hf_hub_download(repository, name))


@contextlib.contextmanager
def reaching(repository: str) -> Iterator[None]:
    """Report any error inside in one line; fail at once if the hub does not answer.

    Raises:
        WeightsError: the hub cannot be reached, or has no such model.
    """
    import huggingface_hub

    try:
        # The libraries would try again for half a minute.
        huggingface_hub.HfApi().model_info(repository, timeout=10)
        yield
    except Exception as error:
        reason = f"{first_line(error)}; it is not in the local cache either"
        advice = "Check the name and the network, or give @FILE"
        raise WeightsError(f"cannot get {repository} from the hub: {reason}. {advice}") from error
