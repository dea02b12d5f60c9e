"""`hf:NAME_OR_DIR`: any image classifier of transformers, from the hub or from a folder."""

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from collegium.errors import RequestError, WeightsError
from collegium.models.designs import Design, Trained
from collegium.models.foreign.extras import (
    broken_torchvision,
    hub_file,
    import_extra,
    reaching,
    told_apart,
)
from collegium.models.network import Preprocess
from collegium.models.strings import ModelString

CONFIG = "hf_config"
"""In a weights file's metadata: the configuration, so that it is built again without its folder."""
PROCESSOR = "preprocessor_config.json"
RESAMPLE = {0: "nearest", 2: "bilinear"}
"""Pillow's numbers; every other filter is nearest to bicubic."""
SMALLEST = 32
"""Most networks halve their input five times."""


def design(member: str, string: ModelString, metadata: Mapping[str, str]) -> Design:
    """A transformers classifier: its configuration decides; code in a repository is never run."""
    import_extra("hf")
    if CONFIG not in metadata and _looks_local(member) and not Path(member).is_dir():
        raise RequestError(f"hf:{member}: no such folder, and no name of a model on the hub")
    with quiet():
        config = _configuration(member, metadata)
        processor = {} if CONFIG in metadata else _processor(member)
    return Design(
        lambda classes: _build(config, classes),
        channels=getattr(config, "num_channels", 3),
        smallest=SMALLEST,
        sees=_preprocess(config, processor),
        native=_size({"size": getattr(config, "image_size", None)}),
        classes=_classes(config),
        trained=lambda classes: _pretrained(member, config, classes),
        metadata={CONFIG: _without_names(config)},
        convert=lambda classes, tensors: _convert(config, classes, tensors),
    )


def _without_names(config: Any) -> str:
    """The configuration as JSON; the names of the classes stand beside it, in every family."""
    words = json.loads(config.to_json_string(use_diff=True))
    kept = {key: value for key, value in words.items() if key not in ("id2label", "label2id")}
    return json.dumps(kept, sort_keys=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's progress bars and advice."""
    from transformers.utils import logging

    before, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        if shown:
            logging.enable_progress_bar()


def _configuration(member: str, metadata: Mapping[str, str]) -> Any:
    from transformers import AutoConfig

    try:
        if CONFIG in metadata:
            words = json.loads(metadata[CONFIG])
            return AutoConfig.for_model(words.pop("model_type"), **words)
        place = member if Path(member).is_dir() else hub_file(member, "config.json").parent
        return AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except WeightsError:
        raise
    except Exception as error:
        reason = f"its configuration cannot be read: {_why(error)}"
        raise RequestError(f"hf:{member}: {reason}") from error


def _looks_local(member: str) -> bool:
    return member.startswith((".", "/", "~")) or member.count("/") != 1


def _build(config: Any, classes: int) -> nn.Module:
    from transformers import AutoConfig, AutoModelForImageClassification

    words = config.to_dict()
    named = {} if config.num_labels == classes else {"id2label": None, "label2id": None}
    kind = words.pop("model_type")
    own = AutoConfig.for_model(kind, **(words | named))
    if named:
        own.num_labels = classes
    with quiet():
        try:
            body: nn.Module = AutoModelForImageClassification.from_config(own)
        except Exception as error:
            raise RequestError(f"hf: a {kind} is no image classifier: {_why(error)}") from error
    return body.float()


def _pretrained(member: str, config: Any, classes: int | None) -> Trained:
    """With the weights beside the configuration, safetensors before anything else."""
    words: dict[str, Any] = {} if classes in (None, config.num_labels) else {"num_labels": classes}
    try:
        with quiet():
            body, info = _load(member, words)
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"hf:{member}: its weights cannot be loaded: {_why(error)}") from error
    missing, wrong = info["missing_keys"], {entry[0] for entry in info["mismatched_keys"]}
    fresh = sorted(wrong) if words else []
    lost = sorted({*missing, *wrong} - set(fresh))
    if lost:
        raise WeightsError(
            f"hf:{member}: {len(lost)} keys have no weights there ({', '.join(lost[:3])}): it is "
            "no image classifier, or was saved without its last layer"
        )
    notes = [f"{', '.join(fresh)} start afresh for {classes} classes"] if fresh else []
    unused = sorted(info["unexpected_keys"])
    notes += [f"{len(unused)} keys of the file not used: {', '.join(unused[:3])}"] if unused else []
    return Trained(body.float(), tuple(notes))


def _load(member: str, words: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    from transformers import AutoModelForImageClassification

    def load(**more: Any) -> Any:
        return AutoModelForImageClassification.from_pretrained(
            member,
            output_loading_info=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            **words,
            **more,
        )

    if Path(member).is_dir():
        return load(local_files_only=True)
    try:
        return load(local_files_only=True)
    except OSError:
        with reaching(member):
            return load()


def _convert(config: Any, classes: int, tensors: Mapping[str, Any]) -> nn.Module | None:
    """A body with these tensors, if the library knows them under older names; else None."""
    body = _build(config, classes)
    kind: Any = type(body)
    with quiet():
        try:
            loaded, info = kind.from_pretrained(
                None,
                config=body.config,
                state_dict=dict(tensors),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except Exception:
            return None
    whole = not (info["missing_keys"] or info["mismatched_keys"] or info["unexpected_keys"])
    return loaded.float() if whole else None


def _processor(member: str) -> dict[str, Any]:
    """How images are prepared, as the file says; empty where there is none."""
    folder = Path(member)
    try:
        file = folder / PROCESSOR if folder.is_dir() else hub_file(member, PROCESSOR)
        content = json.loads(file.read_text())
    except (OSError, WeightsError):
        return {}
    except ValueError:
        raise RequestError(f"hf:{member}: {PROCESSOR} cannot be read") from None
    return dict(content)


def _preprocess(config: Any, processor: Mapping[str, Any]) -> Preprocess | None:
    channels = getattr(config, "num_channels", 3)
    if not processor.get("do_normalize", True):
        mean, std = [0.0] * channels, [1.0] * channels
    elif "image_mean" in processor and "image_std" in processor:
        mean, std = processor["image_mean"], processor["image_std"]
    else:
        return None
    # It multiplies bytes by a factor before it normalises; our pixels are bytes divided by 255.
    factor = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1
    scale = 255 * factor
    return Preprocess(
        tuple(round(value / scale, 6) for value in mean),
        tuple(round(value / scale, 6) for value in std),
        SMALLEST,
        _size(processor),
        interpolation=RESAMPLE.get(processor.get("resample", 2), "bicubic"),
    )


def _size(processor: Mapping[str, Any]) -> tuple[int, int] | None:
    """What is left after resizing and cutting out the middle."""
    cropped = processor.get("do_center_crop") and processor.get("crop_size")
    said = cropped or processor.get("size")
    if isinstance(said, Mapping):
        side = said.get("shortest_edge")
        rows, columns = said.get("height", side), said.get("width", side)
        return (int(rows), int(columns)) if rows and columns else None
    if isinstance(said, (list, tuple)) and len(said) == 2:
        return int(said[0]), int(said[1])
    return (said, said) if isinstance(said, int) else None


def _classes(config: Any) -> tuple[str, ...]:
    names = tuple(config.id2label[place] for place in sorted(config.id2label))
    unnamed = all(str(name) == f"LABEL_{place}" for place, name in enumerate(names))
    return () if unnamed else told_apart([str(name) for name in names])


def _why(error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    # Its image models need no torchvision, and fail without a word on it where it is broken.
    return (broken_torchvision() if "Could not import" in reason else "") or reason
