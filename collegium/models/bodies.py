"""Bodies with a random start, with their library's weights, or with a file's."""

from collections.abc import Sequence

from torch import nn

from collegium.errors import RequestError, WeightsError
from collegium.models.designs import FOREIGN, Design
from collegium.models.keys import LoadingReport
from collegium.models.network import Origin
from collegium.models.strings import PRETRAINED, ModelString, has_weights
from collegium.models.weights import WeightsFile, count_classes, fit_weights


def make_body(
    design: Design,
    string: ModelString,
    file: WeightsFile | None,
    classes: Sequence[str],
    learns: bool,
) -> tuple[nn.Module, Origin]:
    """The module a string names, and where it came from.

    Args:
        design: how it is built.
        string: what was asked for.
        file: of its weights, if one was named.
        classes: of the data.
        learns: it is a student: it has the data's classes.

    Raises:
        WeightsError: the weights do not fit, or cannot be had.
        RequestError: the library has no weights for it.
    """
    if file is not None:
        return _from_file(design, string, file, classes, learns)
    from_library = string.weights == PRETRAINED or string.family in FOREIGN
    if not (from_library and has_weights(string.text)):
        return design.build(len(classes)), Origin(metadata=design.metadata)
    if design.trained is None:
        raise RequestError(f"{string.name} has no weights of its own; give {string.name}@FILE")
    trained = design.trained(len(classes) if learns else None)
    names = () if learns else design.classes
    return trained.body, Origin(names, True, None, trained.notes, design.metadata)


def _from_file(
    design: Design, string: ModelString, file: WeightsFile, classes: Sequence[str], learns: bool
) -> tuple[nn.Module, Origin]:
    names = file.classes()
    body = design.build(len(names or classes))
    others = count_classes(body, file)
    if others is not None and learns:
        raise WeightsError(
            f"weights file {file.source} does not fit the network: it knows {others} classes, the "
            f"data has {len(classes)}; a student has the classes of the data"
        )
    if others is not None:
        body = design.build(others)
        names = design.classes if others == len(design.classes) else ()
    body, report = _fitted(design, body, file, others or len(names or classes))
    notes = tuple(report.lines())
    return body, Origin(names, True, report, notes, design.metadata)


def _fitted(
    design: Design, body: nn.Module, file: WeightsFile, classes: int
) -> tuple[nn.Module, LoadingReport]:
    try:
        return body, fit_weights(body, file)
    except WeightsError:
        other = design.convert(classes, file.tensors) if design.convert else None
        if other is None:
            raise
        count = len(file.tensors)
        return other, LoadingReport(str(file.source), file.taken, matched=count, converted=True)
