"""`hf:NAME_OR_DIR`: any image classifier of transformers, from the hub or from a folder."""

import contextlib
import functools
import inspect
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from collegium.errors import RequestError, WeightsError
from collegium.models.architectures import AbstractModelFamily, Design, Trained, has_weights
from collegium.models.libraries.common import SMALLEST
from collegium.models.libraries.processors import ProcessorSpec, read_processor
from collegium.models.libraries.timm_config import preprocess_of
from collegium.models.model_string import ModelString
from collegium.models.network import requested_size
from collegium.models.reported import reported
from collegium.utils.extras import hub_file, import_extra, reaching, unique_names
from collegium.utils.files import json_object
from collegium.utils.text import some

CONFIG = "hf_config"
"""In a weights file's metadata: the configuration, so that it is built again without its folder."""
PROCESSOR = "preprocessor_config.json"
PROCESSORS = "processor_config.json"
CARD = "README.md"


def _interpolate(body: nn.Module, options: Any, more: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return options, {**more, "interpolate_pos_encoding": True}


def _stretched(trained: Trained, size: tuple[int, int] | None) -> Trained:
    """With position embeddings interpolated to a size in every forward, where that is possible."""
    takes = inspect.signature(type(trained.body).forward).parameters
    if size is None or "interpolate_pos_encoding" not in takes:
        return trained
    trained.body.register_forward_pre_hook(_interpolate, with_kwargs=True)
    note = f"position embeddings are interpolated to views of {size[0]}x{size[1]}"
    return Trained(trained.body, (*trained.notes, note))


def _native(config: Any) -> tuple[int, int] | None:
    """Rows and columns a network was made for; None where its configuration gives none."""
    vision = getattr(config, "vision_config", None)
    side = getattr(config, "image_size", None) or getattr(vision, "image_size", None)
    if isinstance(side, int):
        return side, side
    return (int(side[0]), int(side[1])) if isinstance(side, (list, tuple)) else None


def _unfit(config: Any) -> str:
    """Why it is no classifier of one class among several; empty where it is one."""
    kind = getattr(config, "problem_type", None)
    if kind in ("multi_label_classification", "regression"):
        return (
            f"was trained for problem_type {kind}: only one class among several is taught; give a "
            "network of single_label_classification"
        )
    if config.num_labels == 1:
        return (
            "gives one output, a yes or no of one class; a classifier gives one for each class: "
            "give a network of at least two labels"
        )
    return ""


def _licence(member: str) -> str:
    """The licence in the front matter of its README; empty if there is none."""
    import huggingface_hub

    folder = Path(member)
    try:
        kept = folder / CARD if folder.is_dir() else None
        file = kept or huggingface_hub.try_to_load_from_cache(member, CARD)
        options = huggingface_hub.metadata_load(file) if isinstance(file, (str, Path)) else None
    except Exception:  # no front matter that can be read: the licence is unknown
        return ""
    options = options or {}
    named = options.get("license")
    return str((options.get("license_name") or named) if named == "other" else named or "")


def _without_names(config: Any) -> str:
    """The configuration as JSON; the names of the classes stand beside it, in every family."""
    options = json.loads(config.to_json_string(use_diff=True))
    kept = {key: value for key, value in options.items() if key not in ("id2label", "label2id")}
    return json.dumps(kept, sort_keys=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's progress bars and advice."""
    from transformers.utils import logging

    with warnings.catch_warnings(), contextlib.ExitStack() as undo:
        undo.callback(logging.set_verbosity, logging.get_verbosity())
        if logging.is_progress_bar_enabled():
            undo.callback(logging.enable_progress_bar)
        warnings.simplefilter("ignore")
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield


def _configuration(member: str, metadata: Mapping[str, str]) -> Any:
    from transformers import AutoConfig

    with reported(f"hf:{member}: its configuration cannot be read"):
        if CONFIG in metadata:
            options = json.loads(metadata[CONFIG])
            return AutoConfig.for_model(options.pop("model_type"), **options)
        place = member if Path(member).is_dir() else hub_file(member, "config.json").parent
        return AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)


def _build(config: Any, classes: int) -> nn.Module:
    from transformers import AutoConfig, AutoModelForImageClassification

    options = config.to_dict()
    named = {} if config.num_labels == classes else {"id2label": None, "label2id": None}
    kind = options.pop("model_type")
    own = AutoConfig.for_model(kind, **(options | named))
    if named:
        own.num_labels = classes
    with quiet(), reported(f"hf: a {kind} is no image classifier"):
        body: nn.Module = AutoModelForImageClassification.from_config(own)
        return body.float()


def _pretrained(member: str, config: Any, classes: int | None) -> Trained:
    """With the weights beside the configuration, safetensors before anything else."""
    same = classes in (None, config.num_labels)
    options: dict[str, Any] = {} if same else {"num_labels": classes}
    failure = f"hf:{member}: its weights cannot be loaded"
    with quiet(), reported(failure, error_type=WeightsError):
        body, info = _load(member, options)
    missing, wrong = info["missing_keys"], {entry[0] for entry in info["mismatched_keys"]}
    fresh = sorted(wrong) if options else []
    lost = sorted({*missing, *wrong} - set(fresh))
    if lost:
        raise WeightsError(
            f"hf:{member}: {len(lost)} keys have no weights there ({some(lost)}): it is "
            "no image classifier, or was saved without its last layer"
        )
    notes = [f"{', '.join(fresh)} start afresh for {classes} classes"] if fresh else []
    unused = sorted(info["unexpected_keys"])
    notes += [f"{len(unused)} keys of the file not used: {some(unused)}"] if unused else []
    return Trained(body.float(), tuple(notes))


def _load(member: str, options: Mapping[str, Any]) -> Any:
    """The network, and what the library reports of its weights: from the cache, else the hub."""
    from transformers import AutoModelForImageClassification

    load: Any = functools.partial(
        AutoModelForImageClassification.from_pretrained,
        member,
        output_loading_info=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        **options,
    )
    try:
        return load(local_files_only=True)
    except OSError:
        if Path(member).is_dir():
            raise
        with reaching(member):
            return load()


def _convert(config: Any, classes: int, tensors: Mapping[str, Any]) -> nn.Module | None:
    """A body with these tensors, if the library knows them under older names; else None."""
    body = _build(config, classes)
    kind: Any = type(body)
    with quiet(), contextlib.suppress(Exception):
        loaded, info = kind.from_pretrained(
            None,
            config=body.config,
            state_dict=dict(tensors),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        complete = not (info["missing_keys"] or info["mismatched_keys"] or info["unexpected_keys"])
        return loaded.float() if complete else None
    return None


def _processor_spec(member: str, string: ModelString, config: Any) -> ProcessorSpec | None:
    """The preprocessing of its processor; None if there is none, or it is not needed.

    Raises:
        RequestError: it cannot be used, and the string does not give all itself.
    """
    if not has_weights(string.text):
        return None
    channels = getattr(config, "num_channels", 3)
    try:
        if config.model_type == "timm_wrapper":
            return _timms(config)
        content = _processor(member)
        return read_processor(content, config.model_type, channels, SMALLEST) if content else None
    except RequestError as error:
        if {"mean", "std"} <= set(string.options):
            return None
        raise RequestError(f"hf:{member}: {error}") from None


def _timms(config: Any) -> ProcessorSpec | None:
    """The preprocessing of a timm network inside transformers, from its configuration."""
    options = getattr(config, "pretrained_cfg", None) or {}
    if "mean" not in options or "std" not in options:
        return None
    preprocess = preprocess_of(options, "config.json")
    return ProcessorSpec(preprocess, keeps_ratio=options.get("crop_mode") == "border")


def _processor(member: str) -> dict[str, Any]:
    """The content of the processor file; empty if there is none."""
    content = _json_of(member, PROCESSOR)
    if not content:  # newer versions keep all processors of a network in one file
        content = _json_of(member, PROCESSORS).get("image_processor") or {}
    if not isinstance(content, dict):
        raise RequestError(f"hf:{member}: {PROCESSORS} cannot be read")
    return content


def _json_of(member: str, name: str) -> dict[str, Any]:
    folder = Path(member)
    try:
        content = json_object(
            (folder / name if folder.is_dir() else hub_file(member, name)).read_text()
        )
    except (OSError, WeightsError):
        return {}
    except ValueError:  # no text
        content = None
    if content is None:
        raise RequestError(f"hf:{member}: {name} cannot be read")
    return content


def _classes(config: Any) -> tuple[str, ...]:
    places = sorted(config.id2label)
    if places != list(range(len(places))):
        raise RequestError(
            f"its config.json names classes {places[0]} to {places[-1]} in id2label, expected 0 to "
            f"{len(places) - 1}; correct it, or give the names by --labels NAME=FILE"
        )
    names = tuple(config.id2label[place] for place in places)
    unnamed = all(str(name) == f"LABEL_{place}" for place, name in enumerate(names))
    return () if unnamed else unique_names([str(name) for name in names])


class HubFamily(AbstractModelFamily):
    """Classifiers of transformers, which keeps networks and weights together."""

    slug = "hf"

    def design(self, member: str, string: ModelString, metadata: Mapping[str, str]) -> Design:
        """A classifier whose configuration decides; code in a repository is never run."""
        import_extra("hf")
        on_hub = member.count("/") == 1 and not member.startswith((".", "/", "~"))
        if not (CONFIG in metadata or on_hub or Path(member).is_dir()):
            raise RequestError(f"hf:{member}: no such folder, and no name of a model on the hub")
        with quiet():
            config = _configuration(member, metadata)
            processor = None if CONFIG in metadata else _processor_spec(member, string, config)
        native = _native(config)
        size = requested_size(metadata) or (processor.preprocess.size if processor else None)
        other = None if native in (None, size) else size
        return Design(
            lambda classes: _stretched(Trained(_build(config, classes)), other).body,
            channels=getattr(config, "num_channels", 3),
            smallest=SMALLEST,
            preprocess=None if processor is None else processor.preprocess,
            native=native,
            classes=_classes(config),
            trained=lambda classes: _stretched(_pretrained(member, config, classes), other),
            saved_metadata={CONFIG: _without_names(config)},
            convert=lambda classes, tensors: _convert(config, classes, tensors),
            keeps_ratio=processor is not None and processor.keeps_ratio,
            notes=() if processor is None else processor.notes,
            licence="" if CONFIG in metadata else _licence(member),
            unfit="" if CONFIG in metadata else _unfit(config),
        )

    def has_weights(self, string: ModelString) -> bool:
        """A name has weights; a folder has them if it contains a weights file."""
        folder = Path(string.member)
        files = folder.iterdir() if folder.is_dir() else None
        return files is None or any(path.suffix in (".safetensors", ".bin") for path in files)
