"""The model card: origin, accuracy, use and limits of an exported student."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from collegium.config.run import Run, describe
from collegium.export.formats import ONNX, SAFETENSORS
from collegium.export.model import Subject
from collegium.export.snippets import snippet
from collegium.export.tables import note, table
from collegium.models.licences import UNKNOWN, read_licence
from collegium.plots.tables import Cell, Columns, Table, number, share
from collegium.plots.text import markdown
from collegium.plots.words import percent, plural
from collegium.records.run_folder import Json
from collegium.utils.version import VERSION

NAMED = 20
"""Most classes that the card lists; of more, the first few."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&!])")


def text(words: object) -> str:
    r"""Text with all characters escaped that mean something in Markdown.

    >>> print(text("<b>a|b</b>"))
    \<b\>a\|b\</b\>
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(words).split()))


def code(words: object) -> str:
    r"""Text as code in Markdown.

    >>> print(code("a`b"))
    ``a`b``
    """
    plain = " ".join(str(words).split()).replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    space = " " if plain[:1] == "`" or plain[-1:] == "`" else ""
    return f"{ticks}{space}{plain}{space}{ticks}"


def card(subject: Subject, found: Json, command: str) -> str:
    """README.md of an export.

    Args:
        subject: the exported student.
        found: the measurements.
        command: the command of the export.
    """
    sections = {
        "": _head(subject, found),
        "How good, how large, how fast": _measured(found),
        "Load it": _loading(subject, found),
        "Input": _input(subject),
        "Output": _classes(subject.network.classes),
        "How it was made": _made(subject, command),
        "Teachers": _teachers(subject),
        "Limits": _limits(subject, found),
    }
    parts = [f"## {title}\n\n{body}" if title else body for title, body in sections.items() if body]
    return "\n\n".join(parts) + "\n"


def _head(subject: Subject, found: Json) -> str:
    run, teachers = subject.student.run, subject.student.record.teachers
    tags = ["image-classification", *["knowledge-distillation"] * bool(teachers), "collegium"]
    by = f"distilled from {plural(len(teachers), 'teacher')}" if teachers else "trained on labels"
    return (
        f"---\npipeline_tag: image-classification\ntags: [{', '.join(tags)}]\n---\n\n"
        f"# {code(subject.network.spec)}, {by}\n\n"
        f"An image classifier of {len(subject.network.classes)} classes, trained on "
        f"{code(describe(run.data))} by collegium {VERSION}. Accuracy: "
        f"{percent(found['accuracy'])} on {found['images']:,} images of the {found['split']} split."
    )


def _measured(found: Json) -> str:
    words = note(found)
    return (
        f"{markdown(table(found))}\n\n{text(words[:1].upper() + words[1:])}. The first row is the "
        "student in PyTorch; differences are of logits."
    )


def _loading(subject: Subject, found: Json) -> str:
    file, *others = [row["name"] for row in found["rows"][1:]]
    more = "".join(f"\n\n{code(other)} is loaded in the same way." for other in others)
    lines = f"```python\n{snippet(subject, file)}\n```"
    if known := _model_string(subject, file):
        more += f"\n\nFor collegium it is the model {code(known)}."
    return f"In this folder, with an image `image.png`:\n\n{lines}{more}"


def _model_string(subject: Subject, file: str) -> str:
    """Its model string for collegium; empty where there is none."""
    spec = subject.network.spec
    if file == ONNX:
        return f"onnx:{file}"
    if file != SAFETENSORS or subject.student.module is not None:
        return ""
    return "hf:." if spec.startswith("hf:") else f"{spec}@{file}"


def _input(subject: Subject) -> str:
    wanted = subject.network.preprocess
    channels, rows, columns = subject.input_shape
    kind = "grey" if channels == 1 else "RGB"
    size = "x".join(map(str, subject.student.image_shape[1:]))
    mean, std = (", ".join(f"{v:.6g}" for v in part) for part in (wanted.mean, wanted.std))
    pixels = f"(pixels - mean) / std, for pixels from 0 to 1: mean {mean}; std {std}"
    if subject.inside:
        pixels = "pixels from 0 to 1; the file itself resizes and normalises them"
    return (
        f"* float32, (batch, {channels}, {rows}, {columns}): any number of {kind} images, "
        f"channels first, {wanted.interpolation} where they are resized\n"
        f"* {pixels}\n"
        "* training and evaluation crop an image of another size to its largest centred part of "
        f"the shape {size} (rows x columns) and scale it to that; the lines above and "
        "`collegium predict` do the same"
    )


def _classes(names: Sequence[str]) -> str:
    listed = ", ".join(map(text, names))
    if len(names) > NAMED:
        first = ", ".join(map(text, names[: NAMED // 2]))
        listed = f"{first}, ... ({len(names)}; all are in the file's metadata)"
    return f"Logits (batch, {len(names)}), before any softmax. The classes in order: {listed}."


def _made(subject: Subject, command: str) -> str:
    student = subject.student
    run, method = student.run, student.run.method
    default = {field.name: field.default for field in dataclasses.fields(method)}
    chosen = {k: v for k, v in method.options().items() if default.get(k) != v}
    options = ", ".join(f"{name} {value}" for name, value in chosen.items())
    typed = str(student.record.run.get("environment", {}).get("command") or "")
    program, _, words = typed.partition(" ")  # the folder of the program differs elsewhere
    how = run.optimisation
    lines = [
        f"* method {code(method.slug)}: {text(method.summary())}"
        + (f" Options other than the defaults: {text(options)}." if options else ""),
        f"* student {code(describe(run.student))}",
        f"* data {code(describe(run.data))}, seed {run.seed}, {plural(how.epochs, 'epoch')} of "
        f"batches of {how.batch_size}, {how.optimizer}; the weights are those of "
        + ("the last epoch" if student.which == "last" else "the best epoch on validation"),
        *_label_loss(run),
        *[f"* trained by {code(f'{Path(program).name} {words}')}"] * bool(typed),
        f"* exported by {code(command)}",
    ]
    cited = f"\n\n```bibtex\n{method.citation()}\n```" if method.bibtex else ""
    return "\n".join(lines) + cited


def _label_loss(run: Run) -> list[str]:
    """A line on class weights and label smoothing, where there were any."""
    kind = "balanced class weights" if isinstance(run.class_weights, str) else "class weights"
    parts = [kind] * bool(run.class_weights)
    parts += [f"label smoothing {run.label_smoothing:g}"] * bool(run.label_smoothing)
    return [f"* cross entropy with {' and '.join(parts)}"] * bool(parts)


def _teachers(subject: Subject) -> str:
    record = subject.student.record
    if not record.teachers:
        return ""

    def of(key: str) -> Callable[[Json], Cell]:
        return lambda row: share(record.summary.get(f"{key}.{row['name']}"))

    columns: Columns = {
        "teacher": lambda row: text(row["name"]),
        "model": lambda row: code(row["spec"]),
        "parameters": lambda row: number(row["parameters"]),
        "accuracy": of("accuracy"),
        "mean weight": of("weights"),
        "student agrees": of("agreement"),
        "licence": lambda row: text(row.get("licence", UNKNOWN)),
    }
    lines = [
        markdown(Table.of(record.teachers, columns)),
        "Accuracy and agreement are those of the run, on its evaluation split; the mean weight is "
        "over the training images.",
        *licence_lines(record.teachers),
    ]
    return "\n\n".join(lines)


def licence_lines(teachers: Sequence[Json]) -> list[str]:
    """A paragraph on the limits of the teachers' licences, and on unknown licences."""
    read = {row["name"]: read_licence(str(row.get("licence", ""))) for row in teachers}
    lines = [f"* {text(name)}: {text(one.warning)}." for name, one in read.items() if one.warning]
    if same := [f"{text(name)} ({one.name})" for name, one in read.items() if one.same_terms]:
        lines.append(f"* Copies must carry the same terms, by {', '.join(same)}.")
    if unknown := [text(name) for name, one in read.items() if one.name == UNKNOWN]:
        lines.append(f"* The licence of the weights of {', '.join(unknown)} is unknown.")
    return ["**Licences of the teachers.**\n\n" + "\n".join(lines)] if lines else []


def _limits(subject: Subject, found: Json) -> str:
    summary = subject.student.record.summary
    lines = [
        "Every image gets one of the classes above, whatever it shows.",
        "Probabilities are not calibrated: the run's expected calibration error was "
        f"{summary.get('ece', float('nan')):.3f}.",
        "The accuracy holds for images like those of the data; other images, groups of people and "
        "attacks were not tested.",
    ]
    if found["format"] == "pt2":
        lines.append(f"A pt2 file needs torch {found['torch']} or, as a rule, a newer one.")
    if found["int8"]:
        lines.append(
            "8-bit integers may round differently on a CPU without instructions for them (such as "
            "AVX512-VNNI): measure again there."
        )
    return "\n".join(f"* {line}" for line in lines)
