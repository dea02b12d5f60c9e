"""The store: teacher outputs for views, saved so that each is computed only once.

    manifest.json                    identity of data and views; written first
    teachers/NAME/manifest.json      identity of the teacher; codec of each kind of output
    teachers/NAME/logits/view00003-0000011.safetensors
    teachers/NAME/LAYER/...          features, if they are stored
    uses.jsonl                       one line per run: numbers of outputs requested and computed
    plain/...                        stores of the same format for whole splits, not augmented

A shard is written to a temporary file, flushed and then renamed, so a file with a shard's name is
complete. You can delete a store at any time; a later run computes its outputs again.
"""

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import quote, unquote

from collegium.errors import FolderError, RequestError
from collegium.records.schema import read_json, shown
from collegium.store.codecs import AbstractCodec, make_codec
from collegium.store.volume import Volume, rows_per_shard
from collegium.utils.files import reporting_writes, write_whole
from collegium.utils.from_json import fits, tuples

FORMAT = 1
MANIFEST, TEACHERS, USES = "manifest.json", "teachers", "uses.jsonl"
PLAIN = "plain"
LOGITS = "logits"

Json = dict[str, Any]


@dataclass(frozen=True)
class ViewsIdentity:
    """The identity of the views in a store.

    Attributes:
        data: the data string.
        fingerprint: of all examples from which the views are created.
        examples: number of these examples.
        classes: class names, in the order of the logits.
        recipe: augmentation recipe of the views.
        view_seed: seed of the views.
        view_version: version of the function that creates the views.
    """

    data: str
    fingerprint: str
    examples: int
    classes: tuple[str, ...]
    recipe: str
    view_seed: int
    view_version: int


@dataclass(frozen=True)
class TeacherIdentity:
    """The identity of the teacher that computed the outputs.

    Attributes:
        spec: the model string, or a description of the Python object.
        sha256: of its weights.
        mean: of its normalisation.
        std: of its normalisation.
        precision: in which it computed: "32", "bf16" or "16".
        labels: identity of its label map; empty where its classes are the student's.
        resizing: the size and method to which it resized every view; empty without resizing.
        code: digest of its source code, if a user's file or class defines it; otherwise empty.
    """

    spec: str
    sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    labels: str = ""
    resizing: str = field(default="", repr=False)
    code: str = field(default="", repr=False)


class Store:
    """A folder of teacher outputs.

    Args:
        folder: created when the first output is stored.
        views: the requested views; None to accept those of the folder.
        warn: called with a message about each damaged shard.

    Raises:
        FolderError: the folder holds outputs for other views, or is not readable.
    """

    def __init__(
        self, folder: Path, views: ViewsIdentity | None, warn: Callable[[str], None] = print
    ) -> None:
        self.folder, self._warn = folder, warn
        there = (folder / MANIFEST).is_file()
        if not there and (views is None or _holds_something_else(folder)):
            raise FolderError(f"{folder} is no store of answers: it has no {MANIFEST}")
        found = _read(folder / MANIFEST, ViewsIdentity) if there else None
        if views is not None and found is not None:
            _refuse_other(f"store {folder}", found, views, ignore=("data",))
        self.views: ViewsIdentity = found or views  # type: ignore[assignment]

    def create(self) -> None:
        """Create the folder and write the manifest of its views.

        Raises:
            FolderError: the folder is not writable.
        """
        _write(self.folder / MANIFEST, dataclasses.asdict(self.views))

    def teachers(self) -> dict[str, TeacherIdentity]:
        """The identities of all teachers in the store, by name."""
        folders = sorted((self.folder / TEACHERS).glob(f"*/{MANIFEST}"))
        return {unquote(path.parent.name): _read(path, TeacherIdentity) for path in folders}

    def kinds(self, name: str) -> dict[str, Json]:
        """Codec, shape and rows per shard of each kind of output of a teacher."""
        path = self._place(name) / MANIFEST
        answers = _content(path).get("answers", {}) if path.is_file() else {}
        if not isinstance(answers, dict) or not all(map(_is_answer, answers.values())):
            raise FolderError(f"{path} is damaged: its answers are not codec, shape and rows")
        return dict(answers)

    def as_known(self, name: str, identity: TeacherIdentity) -> TeacherIdentity:
        """The identity without `code` if the manifest of this teacher predates that field."""
        path = self._place(name) / MANIFEST
        if path.is_file() and "code" not in _content(path):
            return dataclasses.replace(identity, code="")
        return identity

    def check(self, name: str, identity: TeacherIdentity) -> None:
        """Check that the store's teacher with this name, if any, has this identity.

        Raises:
            FolderError: it differs; the message gives the requested and the stored values.
        """
        path = self._place(name) / MANIFEST
        if path.is_file():
            where = f"teacher {name} of store {self.folder}"
            _refuse_other(where, _read(path, TeacherIdentity), identity, ignore=("spec",))

    def volume(
        self, name: str, identity: TeacherIdentity, kind: str, shape: tuple[int, ...], codec: str
    ) -> Volume:
        """Open the volume of one kind of output; it may still be empty.

        Args:
            name: of the teacher.
            identity: of the teacher.
            kind: "logits", or the path of a layer.
            shape: of the output for one example.
            codec: "fp16", "fp32", "topK", "int8".

        Raises:
            FolderError: the store uses another codec or shape for this kind.
        """
        how = make_codec(codec, shape)
        wanted = {"codec": codec, "shape": list(shape), "rows": rows_per_shard(how)}
        found = self.kinds(name).get(kind, wanted)
        if found != wanted:
            raise FolderError(
                f"store {self.folder} keeps {kind} of {name} as {found.get('codec')} of shape "
                f"{found.get('shape')}, asked for {codec} of shape {list(shape)}; ask for what is "
                "there, or give another folder"
            )
        return self._open(name, identity, kind, how)

    def stored(self, name: str, kind: str) -> Volume:
        """Open the volume of a kind of output that the manifest lists."""
        entry = self.kinds(name)[kind]
        how = make_codec(entry["codec"], tuple(entry["shape"]))
        return self._open(name, self.teachers()[name], kind, how)

    def _open(self, name: str, identity: TeacherIdentity, kind: str, how: AbstractCodec) -> Volume:
        views = dataclasses.replace(self.views, data="")
        who = dataclasses.replace(identity, spec="")
        # Owners in stores older than label maps, resizing and code digests lack these fields, so
        # empty fields must not change the owner.
        sees: tuple[Any, ...] = (identity.resizing,) if identity.resizing else ()
        sees += (("code", identity.code),) if identity.code else ()
        answers = repr((views, who, kind, how.name, how.shape, *sees))
        owner = hashlib.sha256(answers.replace(", labels='')", ")").encode()).hexdigest()
        folder = self._place(name) / _as_file_name(kind)
        return Volume(folder, owner, how, rows_per_shard(how), self._warn)

    def register(self, name: str, identity: TeacherIdentity, volumes: Mapping[str, Volume]) -> None:
        """Write the identity of a teacher and the codecs of its outputs to its manifest."""
        known = self.kinds(name)
        answers = {
            kind: {
                "codec": volume.codec.name,
                "shape": list(volume.codec.shape),
                "rows": volume.rows,
            }
            for kind, volume in volumes.items()
        }
        if answers.items() <= known.items():
            return
        content = dataclasses.asdict(identity) | {"answers": known | answers}
        _write(self._place(name) / MANIFEST, content)

    def log_usage(self, requested: int, computed: int, seconds: float) -> None:
        """Append one line for a run: the numbers of outputs it requested and computed."""
        line = {"time": time.time(), "asked": requested, "computed": computed, "seconds": seconds}
        with (self.folder / USES).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def uses(self) -> list[Json]:
        """The lines that `log_usage` wrote; damaged lines are skipped."""
        path = self.folder / USES
        lines = path.read_text().splitlines() if path.is_file() else []
        return [use for use in map(_parsed, lines) if use]

    def _place(self, name: str) -> Path:
        return self.folder / TEACHERS / _as_file_name(name)


def _as_file_name(name: str) -> str:
    """A user's name as a file name that cannot refer to a place outside the folder."""
    return quote(name, safe="").replace(".", "%2E") or "%"


def _holds_something_else(folder: Path) -> bool:
    if not folder.is_dir():
        return folder.exists()
    # An interrupted creation leaves a temporary manifest that was not yet renamed.
    begun = set(folder.glob(f".{MANIFEST}.*.tmp"))
    return any(path.name != PLAIN and path not in begun for path in folder.iterdir())


def _parsed(line: str) -> Json:
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    sound = isinstance(content, dict) and all(
        fits(content[key], float) and content[key] >= 0 for key in _COUNTED if key in content
    )
    return content if sound else {}


_COUNTED = ("asked", "computed", "seconds")


def _is_answer(how: Any) -> bool:
    if not isinstance(how, dict) or not {"codec", "shape", "rows"} <= how.keys():
        return False
    sizes = [*how["shape"], how["rows"]] if isinstance(how["shape"], list) else [0]
    sound = all(fits(size, int) and 0 < size < 1 << 32 for size in sizes)
    return sound and re.fullmatch(r"fp16|fp32|int8|top[1-9]\d*", str(how["codec"])) is not None


def _content(path: Path) -> Json:
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FolderError(f"{path} is no manifest of format {FORMAT}: of another version?")
    return content


def _read(path: Path, kind: type) -> Any:
    content = _content(path)
    items = {item.name: item.default for item in dataclasses.fields(kind)}
    required = [name for name, default in items.items() if default is dataclasses.MISSING]
    if missing := [name for name in required if name not in content]:
        raise FolderError(f"{path} does not say {', '.join(missing)}")
    values = tuples({name: content[name] for name in items if name in content})
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not fits(value, hints[name]):
            raise FolderError(f"{path} is damaged: {name} is {shown(value)}")
    return kind(**values)


def _write(path: Path, content: Json) -> None:
    with reporting_writes(f"to {path.parent}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps({"format": FORMAT, **content}, indent=2) + "\n").encode())


def _refuse_other(where: str, found: Any, wanted: Any, ignore: tuple[str, ...]) -> None:
    differing = [
        f"{item.name} {_short(getattr(found, item.name))} (asked for "
        f"{_short(getattr(wanted, item.name))})"
        for item in dataclasses.fields(wanted)
        if item.name not in ignore and getattr(found, item.name) != getattr(wanted, item.name)
    ]
    if differing:
        raise FolderError(f"{where} is for {', '.join(differing)}; give another folder")


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 40 else text[:24] + "..."


def parse_layer(text: str) -> tuple[str, str]:
    """Split a "TEACHER:LAYER" string into teacher and layer.

    Raises:
        RequestError: the string does not have this form.

    >>> parse_layer("r56:stage3")
    ('r56', 'stage3')
    """
    name, separator, path = text.partition(":")
    if not (name and separator and path):
        raise RequestError(f"--layers takes TEACHER:LAYER, got {text!r}")
    return name, path
