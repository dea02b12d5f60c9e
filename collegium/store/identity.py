"""Opens the volumes of a store for a request, checks them and writes their manifests."""

from collections.abc import Callable, Mapping

from collegium.data import VIEW_VERSION, Views
from collegium.errors import FolderError
from collegium.models.features.layer_names import shape_of
from collegium.models.source_code import whole_digest
from collegium.store.source import StoreWriter, Volumes
from collegium.store.store import LOGITS, Store, TeacherIdentity, ViewsIdentity
from collegium.teachers.ensemble import TeacherEnsemble, TeacherInfo

Codecs = Mapping[str, str]
"""The codec for each kind of output: "logits" or a layer."""


def identity_of_views(views: Views, data: str) -> ViewsIdentity:
    """The identity of views in a store.

    Args:
        views: whose teacher outputs the store holds.
        data: the data string the user gave.
    """
    whole, of_views = views.data.whole, (views.recipe, views.seed, VIEW_VERSION)
    return ViewsIdentity(data, whole.fingerprint, whole.count, views.data.classes, *of_views)


def identity_of(info: TeacherInfo, precision: str) -> TeacherIdentity:
    """The identity of a teacher in a store, with the precision it uses, not the requested one."""
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
) -> tuple[dict[str, Volumes], Callable[[], None]]:
    """Open the volumes of some teachers.

    Args:
        store: that holds the volumes.
        ensemble: the teachers.
        codecs: for each teacher by name, the codec of each kind of output.
        precision: the requested precision.

    Returns:
        The volumes, and a function that writes the manifests of views and teachers; call it before
        any output is stored.

    Raises:
        FolderError: the store has a different teacher with this name, or uses another codec or
            shape.
        RequestError: a codec does not support the output.
    """
    volumes: dict[str, Volumes] = {}
    identities: dict[str, TeacherIdentity] = {}
    for name, kinds in codecs.items():
        info = ensemble.infos[name]
        identities[name] = store.as_known(name, identity_of(info, precision))
        store.check(name, identities[name])
        volumes[name] = {
            kind: store.volume(name, identities[name], kind, _shape(info, kind), codec)
            for kind, codec in kinds.items()
        }

    def begin() -> None:
        store.create()
        for name, identity in identities.items():
            store.register(name, identity, volumes[name])

    return volumes, begin


def _shape(info: TeacherInfo, kind: str) -> tuple[int, ...]:
    if kind == LOGITS:
        return (len(info.labels.groups if info.labels else info.classes),)
    shape = shape_of(info.maps, kind)
    assert shape is not None, f"{info.name} has no layer {kind}"
    return shape


MOVED = 0.05
"""Largest allowed difference of a recomputed and a stored logit, in standard deviations."""


def check_answers(writer: StoreWriter, name: str, volumes: Volumes, count: int) -> float:
    """Recompute a sample of the stored logits, spread over the whole volume, and compare.

    This detects changed pixels, networks or code even where the manifest still matches.

    Returns:
        The largest change of a logit, in standard deviations of the logits; 0 where nothing is
        stored.

    Raises:
        FolderError: the recomputed logits differ by more than `MOVED`.
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
