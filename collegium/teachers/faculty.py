"""The teachers of a run: built, looked at and made fast, all at once or one at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from collegium.heap import return_freed_memory
from collegium.models.keys import LoadingReport
from collegium.models.network import Network, body_of, parameter_count, weights_hash
from collegium.models.outputs import logits_of
from collegium.models.survey import survey
from collegium.models.taps import Taps
from collegium.teachers.labels import LabelMap, group_table
from collegium.teachers.prepare import Wishes, prepare
from collegium.teachers.teacher import Prepared, Teacher
from collegium.types import Head, MapShape


@dataclass(frozen=True)
class Profile:
    """What there is to know of a teacher without asking it.

    Attributes:
        name: in this run.
        spec: the model string, or what the object was.
        sha256: of every parameter and buffer as they came.
        classes: its own names, in the order its network has them.
        mean: of the normalisation.
        std: of the normalisation.
        resizing: what every view is brought to ("224x224 bicubic"); empty where it stays as it is.
        parameters: number of trained values.
        maps: shape of each hidden layer a hint can use.
        changes: how it was made fast.
        notes: how it was loaded; what was tried to make it fast and left, with the reason.
        images_per_s: how fast it answers, measured on a few.
        head: the linear classifier it puts on the mean of its last map, if it is that simple; of
            the student's classes.
        labels: how its classes are the student's; None where they are the same.
        loading: how its weights file fitted; None where none was loaded.
        code: digests of the sources that it is made by, where these are no library's.
        doubts: why it may not be the network it is taken for.
    """

    name: str
    spec: str
    sha256: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resizing: str
    parameters: int
    maps: Mapping[str, MapShape]
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    images_per_s: float
    head: Head | None
    labels: LabelMap | None = None
    loading: LoadingReport | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


class Faculty:
    """Teachers by name, each heard through a `Teacher`.

    Args:
        builders: make each network as it came, on the CPU.
        specs: what each is called by the user.
        images_BDHW: real views, for checking what makes teachers fast; on the CPU.
        wishes: what may be done to them.
        device: where they answer.
        bounded: keep none in memory but the one that is being heard.
        relate: gives how the classes of a teacher, by its name and theirs, are the student's.
        layers: of each teacher, hidden layers that are asked for beside those of `survey`.

    Raises:
        RequestError: a teacher has no such layer.
    """

    def __init__(
        self,
        builders: Mapping[str, Callable[[], Network]],
        specs: Mapping[str, str],
        images_BDHW: Tensor,
        wishes: Wishes = Wishes(),  # noqa: B008 - frozen
        *,
        device: torch.device | str = "cpu",
        bounded: bool = False,
        relate: Callable[[str, tuple[str, ...]], LabelMap | None] = lambda name, classes: None,
        layers: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.names = tuple(builders)
        self._builders, self._specs = dict(builders), dict(specs)
        self._images_BDHW = images_BDHW.to(device)
        self._wishes, self._device, self.bounded = wishes, device, bounded
        self._relate = relate
        self._layers = layers or {}
        self._kept: dict[str, Prepared] = {}
        self._hashes: dict[str, str] = {}
        self.profiles: dict[str, Profile] = {}
        for name in self.names:
            self.profiles[name] = self._meet(name)
            self._let_go()

    def _meet(self, name: str) -> Profile:
        network = self._build(name)
        labels = self._relate(name, network.classes)
        channels, rows, columns = self._images_BDHW.shape[1:]
        asked = self._layers.get(name, ())
        maps = survey(network, (channels, rows, columns), asked, f"teacher {name}")
        sha256, parameters = weights_hash(network), parameter_count(network)
        origin = network.origin
        head = linear_head(network, maps, self._images_BDHW[:8])
        prepared = self._prepare(name, maps, network)
        if not self.bounded:
            self._kept[name] = prepared
            self._hashes[name] = weights_hash(prepared.network)
        return Profile(
            name,
            self._specs[name],
            sha256,
            network.classes,
            network.preprocess.mean,
            network.preprocess.std,
            network.preprocess.resizing,
            parameters,
            maps,
            tuple(prepared.changes),
            (*origin.notes, *prepared.notes),
            prepared.images_per_s,
            labels.head(head) if labels is not None and head is not None else head,
            labels,
            origin.loading,
            origin.code,
            origin.doubts,
        )

    def _build(self, name: str) -> Network:
        return self._builders[name]().to(self._device)

    def _prepare(
        self, name: str, maps: Mapping[str, MapShape], network: Network | None = None
    ) -> Prepared:
        first = [network] if network is not None else []

        def build() -> Network:
            return first.pop() if first else self._build(name)

        wishes, say = self._wishes, self._wishes.shrunk
        if say is not None:
            wishes = replace(wishes, shrunk=lambda text: say(f"teacher {name}: {text}"))
        return prepare(build, self._images_BDHW, wishes, tuple(maps))

    @contextmanager
    def hear(self, name: str, paths: tuple[str, ...] = ()) -> Iterator[Teacher]:
        """One teacher, on the device, until the end of the context.

        Args:
            name: of the teacher.
            paths: hidden layers to read.
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
        """One teacher, on the device, for as long as it is held."""
        profile = self.profiles[name]
        prepared = self._kept.get(name) or self._prepare(name, profile.maps)
        return Teacher(prepared, paths, profile.labels)

    def groups(self, names: Sequence[str], classes: int) -> Tensor | None:
        """What these teachers tell apart of C classes: the `groups_TC` of their answers."""
        return group_table([self.profiles[name].labels for name in names], classes)

    def unchanged(self, name: str) -> bool:
        """Whether a teacher's weights are, to the byte, what they were when training began."""
        return self.bounded or weights_hash(self._kept[name].network) == self._hashes[name]


def linear_head(
    network: nn.Module, maps: Mapping[str, MapShape], images_BDHW: Tensor
) -> Head | None:
    """The last linear layer, if the mean of the last map through it is what the network says.

    Args:
        network: asked in evaluation mode, and left in it.
        maps: its hidden layers, of the body where it is a `Network`.
        images_BDHW: a few, unlike each other.
    """
    body = body_of(network)
    linear = [module for module in body.modules() if isinstance(module, nn.Linear)]
    if not maps or not linear or linear[-1].in_features != list(maps.values())[-1][0]:
        return None
    path, last = list(maps)[-1], linear[-1]
    taps = Taps(body, (path,))
    with torch.no_grad():
        said = network.eval()(images_BDHW.to(last.weight.device))
        logits_BC = logits_of(said, "of the teacher")
        found_BC = last(taps.take()[path].mean(dim=(2, 3)))
    taps.close()
    if found_BC.shape != logits_BC.shape or not torch.allclose(found_BC, logits_BC, 1e-3, 1e-3):
        return None
    bias_C = torch.zeros(len(found_BC[0])) if last.bias is None else last.bias
    return last.weight.detach().cpu().clone(), bias_C.detach().cpu().clone()
