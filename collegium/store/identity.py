"""From a request to the volumes of a store: opened, checked, and written down before they fill."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from collegium.data import VIEW_VERSION, Views
from collegium.errors import FolderError
from collegium.models.features.layer_names import shape_of
from collegium.models.source_code import whole_digest
from collegium.store.source import StoreWriter, Volumes
from collegium.store.store import LOGITS, Store, TeacherIdentity, ViewsIdentity
from collegium.teachers.ensemble import TeacherEnsemble, TeacherInfo

Codecs = Mapping[str, str]
"""For each kind of answer, "logits" or a layer, the codec that keeps it."""


def open_store(folder: Path, views: Views, warn: Callable[[str], None], data: str) -> Store:
    """A store for these views, new or as it was left; `data` is what the user calls them.

    Raises:
        FolderError: it is for other data or other views.
    """
    whole = views.data.whole
    identity = ViewsIdentity(
        data,
        whole.fingerprint,
        whole.count,
        views.data.classes,
        views.recipe,
        views.seed,
        VIEW_VERSION,
    )
    return Store(folder, identity, warn)


def identity_of(info: TeacherInfo, precision: str) -> TeacherIdentity:
    """Whose answers are kept; precision is what the teacher computes in, not what was wished."""
    low = "low precision" in info.changes
    return TeacherIdentity(
        info.spec,
        info.sha256,
        info.mean,
        info.std,
        precision if low else "32",
        info.labels.identity if info.labels is not None else "",
        info.resizing,
        whole_digest(info.code),
    )


def open_volumes(
    store: Store, ensemble: TeacherEnsemble, codecs: Mapping[str, Codecs], precision: str
) -> dict[str, Volumes]:
    """The volumes of some teachers.

    Args:
        store: of the answers.
        ensemble: who the teachers are.
        codecs: for each teacher by name, how its answers are kept.
        precision: asked for.

    Raises:
        FolderError: the store has another teacher of that name, or keeps answers otherwise.
        RequestError: an answer cannot be kept so.
    """
    found: dict[str, Volumes] = {}
    for name, kinds in codecs.items():
        info = ensemble.infos[name]
        identity = store.as_known(name, identity_of(info, precision))
        store.check(name, identity)
        found[name] = {
            kind: store.volume(name, identity, kind, _shape(info, kind), codec)
            for kind, codec in kinds.items()
        }
    return found


def _shape(info: TeacherInfo, kind: str) -> tuple[int, ...]:
    if kind == LOGITS:
        return (len(info.labels.groups if info.labels else info.classes),)
    shape = shape_of(info.maps, kind)
    assert shape is not None, f"{info.name} has no layer {kind}"
    return shape


def writes_down(
    store: Store, ensemble: TeacherEnsemble, volumes: Mapping[str, Volumes], precision: str
) -> Callable[[], None]:
    """What must be on the disk before the first answer is: which views, whose answers."""

    def write() -> None:
        store.create()
        for name, kinds in volumes.items():
            identity = store.as_known(name, identity_of(ensemble.infos[name], precision))
            store.register(name, identity, kinds)

    return write


def fill_views(
    writer: StoreWriter,
    volumes: Mapping[str, Volumes],
    views: Sequence[int],
) -> None:
    """Have every teacher answer these views of all examples, one teacher after the other."""
    index_N = writer.views.data.index_N.cpu().numpy()
    for name, kinds in volumes.items():
        for view in views:
            writer.fill(name, kinds, index_N, view)


MOVED = 0.05
"""How far a logit asked for again may be from what is stored, in deviations of the logits."""


def check_answers(writer: StoreWriter, name: str, volumes: Volumes, count: int) -> float:
    """Ask a teacher again about some of what is stored, spread over all of it.

    It tells pixels, networks or code that are no longer what they were, whatever a manifest says.

    Returns:
        The largest change of a logit, in deviations of the logits; 0 where nothing is stored.

    Raises:
        FolderError: the teacher says something else now.
    """
    volume, index_N = volumes[LOGITS], writer.views.data.index_N.cpu().numpy()
    index, view = volume.sample(count, index_N)
    if not len(index):
        return 0.0
    stored_BC = volume.look_up(index, view)
    again = writer.ask_again(name, index, view).cpu()
    again_BC = volume.codec.decode(volume.codec.encode(again))
    moved = ((stored_BC - again_BC).abs().amax() / again_BC.std().clamp_min(1e-12)).item()
    if not moved <= MOVED:
        raise FolderError(
            f"store {volume.folder.parent} does not hold what teacher {name} says now: a logit "
            f"differs by {moved:.2g} deviations (bound {MOVED:g}); remove it or give another"
        )
    return moved
