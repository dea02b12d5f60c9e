"""Modules with random weights, with their library's weights, or with those of a file."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from collegium.errors import RequestError, WeightsError
from collegium.models.architectures import Design, has_weights
from collegium.models.key_matching import LoadingReport, size
from collegium.models.model_string import ModelString
from collegium.models.network import Origin
from collegium.models.weights import WeightsFile, fit_weights, match_file
from collegium.utils.text import some


def make_body(
    design: Design,
    string: ModelString,
    file: WeightsFile | None,
    classes: Sequence[str],
    trainable: bool,
) -> tuple[nn.Module, Origin]:
    """The module a string names, and where it came from.

    Args:
        design: how it is built.
        string: the model string, parsed.
        file: its weights file, if it names one.
        classes: of the data.
        trainable: it is a student: it has the data's classes.

    Raises:
        WeightsError: the weights do not fit, or cannot be loaded.
        RequestError: the library has no weights for it.
    """
    if file is not None:
        return _from_file(design, string, file, classes, trainable)
    from_library = bool(string.weights) or design.trained is not None
    if not (from_library and has_weights(string.text)):
        return design.build(len(classes)), Origin(metadata=design.saved_metadata)
    if design.trained is None:
        raise RequestError(f"{string.name} has no weights of its own; give {string.name}@FILE")
    trained = design.trained(len(classes) if trainable else None)
    names = () if trainable else design.classes
    return trained.body, Origin(names, True, None, trained.notes, design.saved_metadata)


def _from_file(
    design: Design, string: ModelString, file: WeightsFile, classes: Sequence[str], trainable: bool
) -> tuple[nn.Module, Origin]:
    names = file.classes()
    body = design.build(len(names or classes))
    file, resampled = _resampled(design, body, file)
    others = match_file(body, file).other_head()
    if others is not None and trainable:
        raise WeightsError(
            f"weights file {file.source} does not fit the network: it knows {others} classes, the "
            f"data has {len(classes)}; a student has the classes of the data"
        )
    if others is not None:
        body = design.build(others)
        names = design.classes if others == len(design.classes) else ()
    try:
        report = fit_weights(body, file)
    except WeightsError:
        count = others or len(names or classes)
        other = design.convert(count, file.tensors) if design.convert else None
        if other is None:
            raise
        body, report = other, LoadingReport(str(file.source), None, file.taken)
    notes = (*report.lines(), *resampled)
    return body, Origin(names, True, report, notes, design.saved_metadata)


def _resampled(
    design: Design, body: nn.Module, file: WeightsFile
) -> tuple[WeightsFile, tuple[str, ...]]:
    """The file, with position embeddings resized to the module's where its library can."""
    if design.resample is None:
        return file, ()
    match = match_file(body, file)
    if not match.wrong:
        return file, ()
    known = {name: file.tensors[full] for name, full in match.found.items()}
    new = design.resample(body, known)
    fitting = [n for n in match.wrong if n in new and tuple(new[n].shape) == match.own[n]]
    if not fitting:
        return file, ()
    changed = {match.found[name]: new[name] for name in fitting}
    first = fitting[0]
    note = (
        f"{some(fitting)} of {file.source} interpolated: {size(match.theirs[match.found[first]])} "
        f"is {size(match.own[first])} at this size"
    )
    return replace(file, tensors={**file.tensors, **changed}), (note,)
