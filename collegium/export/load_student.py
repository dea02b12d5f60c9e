"""The student of a finished run, built again from its folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from collegium.build import make_splits
from collegium.config.run import Run
from collegium.config.same_run import doubts
from collegium.data import ImageData, Splits
from collegium.data.class_names import same_form
from collegium.data.images.modes import PLAIN, PixelRule
from collegium.errors import DataError, FolderError, RequestError
from collegium.export.options import Which
from collegium.export.paths import refuse_unfinished
from collegium.models.input_spec import InputSpec
from collegium.models.network import Network
from collegium.models.registry import build_network, wrap_module
from collegium.models.source_code import differing, recorded_code
from collegium.models.state import state_tensors, unpack_state
from collegium.models.user_modules import check_tensors, copied, unwrapped
from collegium.models.weights import WeightsFile, fit_weights, read_weights
from collegium.records.run_folder import CHECKPOINT, EXAMPLES, STUDENT, Json, Record
from collegium.training.checkpoint import STATE, TENSORS, checkpoints
from collegium.training.packing import under
from collegium.types import MapShape
from collegium.utils.progress import Display
from collegium.utils.text import some, some_of


@dataclass(frozen=True)
class Student:
    """A run's student.

    Attributes:
        record: the run folder.
        run: its configuration.
        network: in evaluation mode, on the CPU.
        image_shape: channels, rows and columns of the run's images.
        which: after the last epoch, or of the best.
        module: the module from Python that it is a copy of; None where a model string builds it.
        metadata: of its weights file.
        rule: how image files became the run's pixels.
    """

    record: Record
    run: Run
    network: Network
    image_shape: MapShape
    which: Which
    module: nn.Module | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    rule: PixelRule = PLAIN

    def rebuilt(self, spec: str, file: Path) -> Network:
        """The network built again, with no values but those of the file.

        Args:
            spec: a model string that names its weights.
            file: the weights, for a student without a model string.
        """
        input_spec = _input_spec(self.network.classes, self.image_shape)
        if self.module is None:
            return build_network(spec, input_spec, seed=1).eval()
        return _from_module(self.module, read_weights(file), input_spec)


def open_student(
    folder: Path | str, which: Which = "last", module: nn.Module | None = None
) -> Student:
    """The student of a finished run.

    Args:
        folder: of the run.
        which: after the last epoch, or of the best.
        module: a network like the student, where it was given from Python.

    Raises:
        FolderError: no run folder, a run that is going or was stopped, or no such weights.
        RequestError: the student came from Python and `module` is None.
    """
    record = refuse_unfinished(folder)
    run = Run.of(record)
    file = read_weights(record.path(STUDENT))
    shape = _image_shape(record)
    input_spec = _input_spec(file.classes(), shape)
    network = _network(record, run, file, input_spec, module)
    _warn(record, network, file)
    metadata = {**file.metadata}
    if which == "best":
        _take_best(network, record, run.optimisation.epochs)
        metadata["top1"] = f"{record.summary.get('accuracy_at_best_validation') or 0:.6f}"
    rule = PixelRule.from_json(record.run.get("pixels") or {})
    return Student(record, run, network.eval(), shape, which, module, metadata, rule)


def _warn(record: Record, network: Network, file: WeightsFile) -> None:
    """Warn about files of another run, and about code that has changed since the run."""
    found = [*doubts(record.folder, record.run), *network.origin.doubts]
    then, now = recorded_code(file.metadata), dict(network.origin.code)
    if not network.origin.doubts and then and now and (other := differing(then, now)):
        found.append(f"its code is not what its weights were trained with: {some_of(other, 4)}")
    display = Display(label=record.folder.name)
    for doubt in dict.fromkeys(found):
        display.warn(doubt)


def _image_shape(record: Record) -> MapShape:
    images = record.read_arrays(EXAMPLES).get("images")
    if images is None or images.ndim != 4:
        raise FolderError(
            f"{record.folder} has no {EXAMPLES} with images, which says how large the run's are"
        )
    channels, rows, columns = images.shape[1:]
    return channels, rows, columns


def _input_spec(classes: tuple[str, ...], shape: MapShape) -> InputSpec:
    """The normalisation is a placeholder: the weights file holds the real one."""
    return InputSpec(classes, shape, (0.5,) * shape[0], (0.5,) * shape[0])


def _network(
    record: Record, run: Run, file: WeightsFile, input_spec: InputSpec, module: nn.Module | None
) -> Network:
    if module is not None:
        return _from_module(module, file, input_spec)
    if str(run.student).startswith("<"):
        raise RequestError(
            f"the student of {record.folder} was given from Python as {run.student}, which no "
            "string brings back: give it again from Python, by student=MODULE "
            "(collegium.export_student, collegium.predict)"
        )
    return build_network(str(record.folder), input_spec)


def _from_module(module: nn.Module, file: WeightsFile, input_spec: InputSpec) -> Network:
    """A copy of a module with the file's weights only."""
    module, _ = unwrapped(module)
    module = module.body if isinstance(module, Network) else module
    check_tensors(module, "student=MODULE", trainable=False)
    body = copied(module, "student=MODULE").cpu()
    with torch.no_grad():
        for tensor in state_tensors(body).values():
            tensor.zero_()
    fit_weights(body, file)
    mean, std = (tuple(map(float, file.metadata[key].split())) for key in ("mean", "std"))
    spec = InputSpec(input_spec.classes, input_spec.image_shape, mean, std)
    return wrap_module(body, spec).eval()


def _take_best(network: Network, record: Record, epochs: int) -> None:
    """Load the best epoch's tensors into a network that has the last one's.

    Raises:
        FolderError: no checkpoint has the weights of that epoch, or there is no best epoch.
    """
    wanted = record.summary.get("best_epoch")
    if wanted == epochs - 1:
        return
    for path in reversed(checkpoints(record.path(CHECKPOINT))):
        try:
            content = json.loads((path / STATE).read_text())
            if wanted is not None and content["progress"].get("best_epoch") == wanted:
                best = under("best", load_file(path / TENSORS))
                extra = content.get("extra", {}).get("best", {})
                network.body.load_state_dict(unpack_state(best, extra))
                return
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError):
            continue  # a damaged one
    raise FolderError(
        f"{record.folder} has kept no checkpoint with the weights of its best epoch"
        f"{'' if wanted is None else f' ({wanted})'}; take those of the last: --weights last"
    )


def splits_of(student: Student, data: "str | Splits | None", display: Display) -> Splits:
    """The run's data, or the data given in their place.

    Raises:
        DataError: they cannot be read, or differ from the run's in image shape or classes.
    """
    run, source = student.run, student.run.data if data is None else data
    remedy = "; an export is compared on real images, so say where they are: --data DATA"
    if isinstance(source, str) and source.startswith("<"):
        raise DataError(f"the run's data were given from Python as {source}{remedy}")
    try:
        splits = make_splits(
            source, run.validation, run.seed, run.image_size, display=display, classes=run.classes
        )
    except RequestError as error:
        where = "" if data is None else "--data: "
        raise DataError(f"{where}{error}{remedy if data is None else ''}") from None
    _refuse_others(student, splits.train)
    return splits


def _refuse_others(student: Student, data: ImageData) -> None:
    own = student.network.classes
    if [*map(same_form, data.classes)] != [*map(same_form, own)]:
        raise DataError(
            f"{data.name} has {len(data.classes)} classes ({some(data.classes)}), "
            f"the student {len(own)} ({some(own)}), or their order differs"
        )
    if data.shape != student.image_shape:
        found, wanted = ("x".join(map(str, shape)) for shape in (data.shape, student.image_shape))
        raise DataError(f"{data.name} has images of {found}, the run's were {wanted}")


def same_images(record: Record, split: str, data: ImageData) -> bool:
    """Whether these are the images that the run was measured on."""
    content: Json = record.run
    kept = content.get("identity", {}).get(f"{split} split")
    known = content.get("fingerprint") if split == "train" else kept
    return known == data.fingerprint()
