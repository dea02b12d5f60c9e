"""Which layer of a teacher hints to which layer of the student."""

from collections.abc import Mapping, Sequence
from typing import Literal

from collegium.errors import RequestError, UnknownNameError
from collegium.models.features.layer_names import find_layer, shape_of
from collegium.types import Dims, HintPair, Layers, MapShape

Assignment = Literal["one_per_group", "cyclic", "all_to_one", "skip_last"]


def pair_layers(
    dims: Dims, assignment: Assignment = "one_per_group", explicit: Sequence[str] = ()
) -> list[HintPair]:
    """Who hints where: each teacher its own group of student layers, like layers of each.

    Args:
        dims: student groups are its `student_maps`, from shallow to deep.
        assignment: "one_per_group" gives teachers, in listed order, to groups from shallow to
            deep (fewer teachers than groups: spread, the last to the deepest; more: neighbours
            share a group); "cyclic" gives group g to teacher g mod T; "all_to_one" sends every
            teacher to the middle group; "skip_last" is the first without the last teacher.
        explicit: "STUDENT_LAYER=TEACHER:TEACHER_LAYER" strings, which replace the rule.

    Raises:
        RequestError: a network has no layer to pair, or an explicit pair cannot be read.
    """
    if explicit:
        return [_known(pair, dims) for pair in parse_pairs(explicit, dims.teachers)]
    silent = [name for name in dims.teachers if not dims.teacher_maps.get(name)]
    if silent or not dims.student_maps:
        who = f"teacher {', '.join(silent)}" if silent else "the student"
        raise RequestError(
            f"hints need hidden layers, and {who} has none that can be read (TorchScript and ONNX "
            "give logits alone); use hint_weight=0"
        )
    groups = list(dims.student_maps)
    pairs = _assign(dims.teachers, len(groups), assignment)
    return [
        HintPair(groups[group], teacher, nearest_layer(dims, groups[group], teacher))
        for teacher, group in pairs
    ]


def _assign(teachers: Sequence[str], groups: int, assignment: Assignment) -> list[tuple[str, int]]:
    if assignment == "all_to_one":
        return [(teacher, groups // 2) for teacher in teachers]
    if assignment == "cyclic":
        return [(teachers[group % len(teachers)], group) for group in range(groups)]
    chosen = teachers[:-1] if assignment == "skip_last" and len(teachers) > 1 else teachers
    count = len(chosen)
    if count >= groups:
        return [(teacher, place * groups // count) for place, teacher in enumerate(chosen)]
    # Fewer teachers than groups: spread evenly, the last one to the deepest group.
    return [(teacher, (place + 1) * groups // count - 1) for place, teacher in enumerate(chosen)]


def nearest_layer(dims: Dims, student_layer: str, teacher: str) -> str:
    """The teacher's layer most like the student's: of the nearest resolution, then depth.

    If all layers of either network have one resolution, by depth alone.
    """
    own, theirs = dims.student_maps, dims.teacher_maps[teacher]
    depth, rows = list(own).index(student_layer), own[student_layer][1]
    end, their_end = len(own) - 1, len(theirs) - 1
    flat = _flat(own) or _flat(theirs)

    def unlike(place: int, layer: str) -> tuple[float, int]:
        their_rows = theirs[layer][1]
        ratio = 1.0 if flat else max(their_rows, rows) / min(their_rows, rows)
        # Depths as parts of the whole, in whole numbers; a layer alone is as deep as the last.
        return ratio, abs((depth or not end) * (their_end or 1) - place * (end or 1))

    return min(enumerate(theirs), key=lambda item: unlike(*item))[1]


def _flat(maps: Mapping[str, MapShape]) -> bool:
    """Whether several layers have one resolution."""
    return len(maps) > 1 and len({shape[1:] for shape in maps.values()}) == 1


def explicit_layers(texts: Sequence[str], teachers: Sequence[str]) -> Layers:
    """The layers that explicit pairs name.

    Raises:
        RequestError: a pair cannot be read, or names a teacher there is not.
    """
    return Layers.of(parse_pairs(texts, teachers))


def parse_pairs(texts: Sequence[str], teachers: Sequence[str]) -> list[HintPair]:
    """Pairs from "STUDENT_LAYER=TEACHER:TEACHER_LAYER" strings; their layers are not checked.

    Raises:
        RequestError: one is not of that form, or names a teacher there is not.
    """
    pairs = []
    for text in texts:
        student_layer, equals, rest = text.partition("=")
        teacher, colon, teacher_layer = rest.partition(":")
        if not (student_layer and equals and teacher and colon and teacher_layer):
            raise RequestError(
                f"a hint pair is STUDENT_LAYER=TEACHER:TEACHER_LAYER, found {text!r}"
            )
        if teacher not in teachers:
            raise UnknownNameError(f"teacher in the hint pair {text!r}", teacher, teachers)
        pairs.append(HintPair(student_layer, teacher, teacher_layer))
    return pairs


def _known(pair: HintPair, dims: Dims) -> HintPair:
    theirs = dims.teacher_maps.get(pair.teacher, {})
    student_layer = find_layer(dims.student_maps, pair.student_layer)
    teacher_layer = find_layer(theirs, pair.teacher_layer)
    if student_layer is None:
        raise UnknownNameError(
            "student layer in a hint pair", pair.student_layer, dims.student_maps
        )
    if teacher_layer is None:
        raise UnknownNameError(f"layer of teacher {pair.teacher}", pair.teacher_layer, theirs)
    return HintPair(student_layer, pair.teacher, teacher_layer)


def pair_table(pairs: Sequence[HintPair], dims: Dims) -> str:
    """Who hints where, for people: a line for each pair, with the shapes of both maps."""
    rows = [("hints of", "its layer", "shape", "student's layer", "shape")]
    for pair in pairs:
        their_shape = shape_of(dims.teacher_maps[pair.teacher], pair.teacher_layer)
        shapes = their_shape or (), dims.student_maps[pair.student_layer]
        theirs, own = ("x".join(map(str, shape)) for shape in shapes)
        rows.append((pair.teacher, pair.teacher_layer, theirs, pair.student_layer, own))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)
