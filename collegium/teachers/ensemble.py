"""The teachers of a run: builds, inspects and optimizes them, together or one at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from collegium.errors import CollegiumError, RequestError
from collegium.models.features.discover import survey
from collegium.models.features.hooks import FeatureHooks
from collegium.models.features.trace import readable
from collegium.models.features.work import multiply_adds
from collegium.models.licences import UNKNOWN, read_licence
from collegium.models.network import Network, body_of, parameter_count, weights_hash
from collegium.models.outputs import logits_of
from collegium.models.state import snapshot, state_tensors
from collegium.models.user_modules import first_tensor
from collegium.teachers.label_map import LabelMap, group_table
from collegium.teachers.optimize import InferenceOptions, prepare
from collegium.teachers.teacher import OptimizedTeacher, Teacher
from collegium.types import Head, MapShape
from collegium.utils.memory import ran_out, return_freed_memory
from collegium.utils.text import first_line


@dataclass(frozen=True)
class TeacherInfo:
    """The properties of a teacher that are known without a forward pass.

    Attributes:
        name: in this run.
        spec: the model string, or a description of the Python object.
        sha256: of all parameters and buffers, before any optimization.
        classes: the teacher's own class names, in the order of its logits.
        mean: of the normalisation.
        std: of the normalisation.
        resizing: the size and method to which it resizes every view ("224x224 bicubic"); empty
            without resizing.
        parameters: number of trained values.
        multiply_adds: of its forward pass for one view, see `multiply_adds`.
        maps: shape of each feature that a hint can use.
        changes: the optimizations that were applied.
        notes: how it was loaded; the optimizations that were tried and rejected, with the reason.
        images_per_s: its speed, measured on a few images.
        head: the linear classifier that it applies to the mean of its last map, converted to the
            student's classes; None if it has no such classifier.
        labels: maps its classes to the student's; None where they are the same.
        licence: of its weights; "unknown" if no source states it.
        code: digests of the source code that defines it, except the code of libraries.
        doubts: reasons why it may not be the intended network.
    """

    name: str
    spec: str
    sha256: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resizing: str
    parameters: int
    multiply_adds: int
    maps: Mapping[str, MapShape]
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    images_per_s: float
    head: Head | None
    labels: LabelMap | None = None
    licence: str = UNKNOWN
    code: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


class TeacherEnsemble:
    """Teachers by name; each is used through a `Teacher`.

    Args:
        builders: functions that build each original network on the CPU.
        specs: the model string of each teacher.
        images_BDHW: real views on the CPU, for checking the optimizations.
        inference: the optimizations to try.
        device: on which the teachers run.
        bounded: keep only the running teacher in memory.
        relate: returns the label map of a teacher, from its name and class names.
        layers: for each teacher, further layers to record beside those that `survey` lists.

    Raises:
        RequestError: a teacher does not have a requested layer.
    """

    def __init__(
        self,
        builders: Mapping[str, Callable[[], Network]],
        specs: Mapping[str, str],
        images_BDHW: Tensor,
        inference: InferenceOptions = InferenceOptions(),  # noqa: B008 - frozen
        *,
        device: torch.device | str = "cpu",
        bounded: bool = False,
        relate: Callable[[str, tuple[str, ...]], LabelMap | None] = lambda name, classes: None,
        layers: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.names = tuple(builders)
        self._builders, self._specs = dict(builders), dict(specs)
        self._images_BDHW = images_BDHW.to(device)
        self._inference, self._device, self.bounded = inference, device, bounded
        self._relate = relate
        self._layers = layers or {}
        self._kept: dict[str, OptimizedTeacher] = {}
        self._hashes: dict[str, str] = {}
        self.infos: dict[str, TeacherInfo] = {}
        for name in self.names:
            self.infos[name] = self._meet(name)
            self._let_go()

    def _meet(self, name: str) -> TeacherInfo:
        network = self._build(name)
        self._try(name, network)
        labels = self._relate(name, network.classes)
        channels, rows, columns = self._images_BDHW.shape[1:]
        further = self._layers.get(name, ())
        work = multiply_adds(network, (channels, rows, columns))
        maps = survey(network, (channels, rows, columns), further, f"teacher {name}")
        sha256, parameters = weights_hash(network), parameter_count(network)
        origin = network.origin
        head = linear_head(network, maps, self._images_BDHW[:8])
        prepared = self._prepare(name, maps, network)
        if not self.bounded:
            self._kept[name] = prepared
            self._hashes[name] = weights_hash(prepared.network)
        return TeacherInfo(
            name,
            self._specs[name],
            sha256,
            network.classes,
            network.preprocess.mean,
            network.preprocess.std,
            network.preprocess.resizing,
            parameters,
            work,
            maps,
            tuple(prepared.changes),
            (*origin.notes, *prepared.notes),
            prepared.images_per_s,
            labels.head(head) if labels is not None and head is not None else head,
            labels,
            read_licence(origin.licence).name,
            origin.code,
            origin.doubts,
        )

    def _try(self, name: str, network: Network) -> None:
        """Run the network on one full block of real images; so far it ran on single blank ones.

        Raises:
            RequestError: the network fails, or changes its own state.
        """
        block_BDHW = self._images_BDHW[: self._inference.most]
        plain = OptimizedTeacher(
            network, blocks=(self._inference.most,), shrunk=self._inference.shrunk
        )
        versions = _versions(network)
        try:
            plain.ask(block_BDHW)
            if _versions(network) != versions:
                _refuse_changing(name, network, lambda: plain.ask(block_BDHW))
        except Exception as error:  # a user's forward may raise any exception
            if ran_out(error) or isinstance(error, CollegiumError):
                raise
            raise RequestError(
                f"teacher {name} takes one view and fails on {self._inference.most} at a time: "
                f"{first_line(error)}; its forward must take batches of any size"
            ) from error

    def _build(self, name: str) -> Network:
        return self._builders[name]().to(self._device)

    def _prepare(
        self, name: str, maps: Mapping[str, MapShape], network: Network | None = None
    ) -> OptimizedTeacher:
        first = [network] if network is not None else []

        def build() -> Network:
            return first.pop() if first else self._build(name)

        inference, report = self._inference, self._inference.shrunk
        if report is not None:
            inference = replace(inference, shrunk=lambda text: report(f"teacher {name}: {text}"))
        return prepare(build, self._images_BDHW, inference, tuple(maps))

    @contextmanager
    def loaded(self, name: str, paths: tuple[str, ...] = ()) -> Iterator[Teacher]:
        """Load one teacher onto the device until the end of the context.

        Args:
            name: of the teacher.
            paths: layers whose features are read.
        """
        teacher = self.teacher(name, paths)
        try:
            yield teacher
        finally:
            teacher.close()
            del teacher
            self._let_go()

    def _let_go(self) -> None:
        if self.bounded:
            return_freed_memory()

    def teacher(self, name: str, paths: tuple[str, ...] = ()) -> Teacher:
        """Load one teacher onto the device; it stays there while the caller keeps a reference."""
        info = self.infos[name]
        prepared = self._kept.get(name) or self._prepare(name, info.maps)
        return Teacher(prepared, paths, info.labels)

    def groups(self, names: Sequence[str], classes: int) -> Tensor | None:
        """The classes these teachers distinguish among C classes: `groups_TC` of their outputs."""
        return group_table([self.infos[name].labels for name in names], classes)

    def unchanged(self, name: str) -> bool:
        """Whether a teacher's weights are byte for byte as at the start; bounded: always true."""
        return self.bounded or weights_hash(self._kept[name].network) == self._hashes[name]


def _versions(network: nn.Module) -> dict[str, int]:
    """The version counter of each state tensor, which every write increases."""
    return {name: tensor._version for name, tensor in state_tensors(network).items()}


def _refuse_changing(name: str, network: nn.Module, ask: Callable[[], object]) -> None:
    """Reject a teacher whose forward pass changes its own state, as quantisation observers do.

    Raises:
        RequestError: the state changed; the message names the first changed tensor.
    """
    before = snapshot(network)
    ask()
    for key, tensor in state_tensors(network).items():
        if tensor.shape != before[key].shape or not torch.equal(tensor, before[key]):
            raise RequestError(
                f"teacher {name} changes its {key} in every forward pass, also in evaluation mode; "
                "freeze it first (of quantisation: apply torch.ao.quantization.disable_observer)"
            )


def linear_head(
    network: nn.Module, maps: Mapping[str, MapShape], images_BDHW: Tensor
) -> Head | None:
    """The last linear layer, if applying it to the mean of the last map gives the logits.

    Args:
        network: is put into evaluation mode and stays in it.
        maps: shapes of its features; those of the backbone if it is a `Network`.
        images_BDHW: a few different images.
    """
    body = body_of(network)
    modules = (module for _, module in readable(body))
    linear = [m for m in modules if isinstance(m, nn.Linear) and isinstance(m.weight, Tensor)]
    if not maps or not linear or linear[-1].in_features != list(maps.values())[-1][0]:
        return None
    path, last = list(maps)[-1], linear[-1]
    like = first_tensor(body)
    images_BDHW = images_BDHW.to(last.weight.device, copy=True)
    if body is network and like is not None:
        images_BDHW = images_BDHW.to(like.dtype)
    with torch.no_grad(), FeatureHooks(body, (path,)) as hooks:
        logits_BC = logits_of(network.eval()(images_BDHW), "of the teacher")
        found_BC = last(hooks.take()[path].mean(dim=(2, 3)).to(last.weight.dtype))
    if found_BC.shape != logits_BC.shape or not torch.allclose(found_BC, logits_BC, 1e-3, 1e-3):
        return None
    bias_C = torch.zeros(len(found_BC[0])) if last.bias is None else last.bias
    return last.weight.detach().float().cpu().clone(), bias_C.detach().float().cpu().clone()
