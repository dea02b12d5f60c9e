"""From a request to the volumes of a store: opened, checked, and written down before they fill."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from collegium.data import VIEW_VERSION, Views
from collegium.errors import FolderError
from collegium.models.features.layer_names import shape_of
from collegium.models.source_code import whole_digest
from collegium.store.source import Filler, Volumes
from collegium.store.store import LOGITS, Store, TeacherIdentity, ViewsIdentity
from collegium.teachers.ensemble import Faculty, Profile

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


def identity_of(profile: Profile, precision: str) -> TeacherIdentity:
    """Whose answers are kept; precision is what the teacher computes in, not what was wished."""
    low = "low precision" in profile.changes
    return TeacherIdentity(
        profile.spec,
        profile.sha256,
        profile.mean,
        profile.std,
        precision if low else "32",
        profile.labels.identity if profile.labels is not None else "",
        profile.resizing,
        whole_digest(profile.code),
    )


def open_volumes(
    store: Store, faculty: Faculty, codecs: Mapping[str, Codecs], precision: str
) -> dict[str, Volumes]:
    """The volumes of some teachers.

    Args:
        store: of the answers.
        faculty: who the teachers are.
        codecs: for each teacher by name, how its answers are kept.
        precision: asked for.

    Raises:
        FolderError: the store has another teacher of that name, or keeps answers otherwise.
        RequestError: an answer cannot be kept so.
    """
    found: dict[str, Volumes] = {}
    for name, kinds in codecs.items():
        profile = faculty.profiles[name]
        identity = store.as_known(name, identity_of(profile, precision))
        store.check(name, identity)
        found[name] = {
            kind: store.volume(name, identity, kind, _shape(profile, kind), codec)
            for kind, codec in kinds.items()
        }
    return found


def _shape(profile: Profile, kind: str) -> tuple[int, ...]:
    if kind == LOGITS:
        return (len(profile.labels.groups if profile.labels else profile.classes),)
    shape = shape_of(profile.maps, kind)
    assert shape is not None, f"{profile.name} has no layer {kind}"
    return shape


def writes_down(
    store: Store, faculty: Faculty, volumes: Mapping[str, Volumes], precision: str
) -> Callable[[], None]:
    """What must be on the disk before the first answer is: which views, whose answers."""

    def write() -> None:
        store.create()
        for name, kinds in volumes.items():
            identity = store.as_known(name, identity_of(faculty.profiles[name], precision))
            store.enrol(name, identity, kinds)

    return write


def fill_views(
    filler: Filler,
    volumes: Mapping[str, Volumes],
    views: Sequence[int],
) -> None:
    """Have every teacher answer these views of all examples, one teacher after the other."""
    index_N = filler.views.data.index_N.cpu().numpy()
    for name, kinds in volumes.items():
        for view in views:
            filler.fill(name, kinds, index_N, view)


MOVED = 0.05
"""How far a logit asked for again may be from what is stored, in deviations of the logits."""


def check_answers(filler: Filler, name: str, volumes: Volumes, count: int) -> float:
    """Ask a teacher again about some of what is stored, spread over all of it.

    It tells pixels, networks or code that are no longer what they were, whatever a manifest says.

    Returns:
        The largest change of a logit, in deviations of the logits; 0 where nothing is stored.

    Raises:
        FolderError: the teacher says something else now.
    """
    volume, index_N = volumes[LOGITS], filler.views.data.index_N.cpu().numpy()
    index, view = volume.sample(count, index_N)
    if not len(index):
        return 0.0
    stored_BC = volume.look_up(index, view)
    again = filler.ask_again(name, index, view).cpu()
    again_BC = volume.codec.decode(volume.codec.encode(again))
    moved = ((stored_BC - again_BC).abs().amax() / again_BC.std().clamp_min(1e-12)).item()
    if not moved <= MOVED:
        raise FolderError(
            f"store {volume.folder.parent} does not hold what teacher {name} says now: a logit "
            f"differs by {moved:.2g} deviations (bound {MOVED:g}); remove it or give another"
        )
    return moved
