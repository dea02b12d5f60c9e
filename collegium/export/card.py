"""The model card: what a student is, where it comes from, what it is worth, how to use it."""

import dataclasses
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from collegium.config.run import Run, describe
from collegium.export.formats import ONNX, SAFETENSORS
from collegium.export.model import Subject
from collegium.export.snippets import snippet
from collegium.export.tables import HEAD, markdown, note, rows
from collegium.models.licences import UNKNOWN, read_licence
from collegium.records.run_folder import Json
from collegium.utils.version import VERSION

NAMED = 20
"""Classes that are listed; of more the first few."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&!])")


def text(words: object) -> str:
    r"""Words that are nothing but words in Markdown, whatever they contain.

    >>> print(text("<b>a|b</b>"))
    \<b\>a\|b\</b\>
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(words).split()))


def code(words: object) -> str:
    r"""The same in the type of code.

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
        subject: what was exported.
        found: what was measured.
        command: that exported it.
    """
    sections = {
        "": _head(subject, found),
        "How good, how large, how fast": _measured(found),
        "Load it": _loading(subject, found),
        "What it expects": _input(subject),
        "What it answers": _classes(subject.network.classes),
        "How it was made": _made(subject, command),
        "Teachers": _teachers(subject),
        "Limits": _limits(subject, found),
    }
    parts = [f"## {title}\n\n{body}" if title else body for title, body in sections.items() if body]
    return "\n\n".join(parts) + "\n"


def _head(subject: Subject, found: Json) -> str:
    run, teachers = subject.student.run, subject.student.record.teachers
    tags = ["image-classification", *["knowledge-distillation"] * bool(teachers), "collegium"]
    number = f"{len(teachers)} teacher{'s' * (len(teachers) > 1)}"
    by = f"taught by {number}" if teachers else "trained on labels"
    return "\n".join(
        [
            "---",
            "pipeline_tag: image-classification",
            f"tags: [{', '.join(tags)}]",
            "---",
            "",
            f"# {code(subject.network.spec)}, {by}",
            "",
            f"An image classifier of {len(subject.network.classes)} classes, trained on "
            f"{code(describe(run.data))} by collegium {VERSION}: "
            f"{100 * found['accuracy']:.2f} % of {found['images']:,} images of the "
            f"{found['split']} split are classified rightly.",
        ]
    )


def _measured(found: Json) -> str:
    return f"{markdown(HEAD, rows(found))}\n\n{_sentence(note(found))}" + (
        " The first row is the student in PyTorch; differences are of logits."
    )


def _sentence(words: str) -> str:
    return text(words[:1].upper() + words[1:]) + "."


def _loading(subject: Subject, found: Json) -> str:
    file, *others = [row["name"] for row in found["rows"][1:]]
    more = "".join(f"\n\n{code(other)} is loaded in the same way." for other in others)
    lines = f"```python\n{snippet(subject, file)}\n```"
    if known := _model_string(subject, file):
        more += f"\n\nFor collegium it is the model {code(known)}."
    return f"In this folder, with a picture `image.png`:\n\n{lines}{more}"


def _model_string(subject: Subject, file: str) -> str:
    """What collegium calls it; empty where no string names it."""
    spec = subject.network.spec
    if file == ONNX:
        return f"onnx:{file}"
    if file != SAFETENSORS or subject.student.module is not None:
        return ""
    return "hf:." if spec.startswith("hf:") else f"{spec}@{file}"


def _input(subject: Subject) -> str:
    wanted = subject.network.preprocess
    channels, rows_, columns = subject.input_shape
    kind = "grey" if channels == 1 else "RGB"
    picture = "x".join(map(str, subject.student.image_shape[1:]))
    lines = [
        f"* float32, (batch, {channels}, {rows_}, {columns}): any number of {kind} images, "
        f"channels first, {wanted.interpolation} where they are resized",
    ]
    if subject.inside:
        lines += ["* pixels from 0 to 1; the file normalises and resizes them itself"]
    else:
        mean, std = (", ".join(f"{v:.6g}" for v in part) for part in (wanted.mean, wanted.std))
        lines += [f"* (pixels - mean) / std, for pixels from 0 to 1: mean {mean}; std {std}"]
    lines += [
        "* in training and evaluation a picture of another size was first cut to its largest "
        f"centred part of the shape {picture} (rows x columns) and scaled to that, which the lines "
        "above and `collegium predict` do too"
    ]
    return "\n".join(lines)


def _classes(names: Sequence[str]) -> str:
    shown = names if len(names) <= NAMED else names[: NAMED // 2]
    more = "" if len(names) <= NAMED else f", ... ({len(names)}; all are in the file's metadata)"
    listed = ", ".join(map(text, shown))
    return (
        f"Logits (batch, {len(names)}), before any softmax. The classes in order: {listed}{more}."
    )


def _made(subject: Subject, command: str) -> str:
    student = subject.student
    run, method = student.run, student.run.method
    default = {field.name: field.default for field in dataclasses.fields(method)}
    chosen = {k: v for k, v in method.options().items() if default.get(k) != v}
    options = ", ".join(f"{name} {value}" for name, value in chosen.items())
    trained = _typed(str(student.record.run.get("environment", {}).get("command") or ""))
    how = run.optimisation
    lines = [
        f"* method {code(method.slug)}: {text(method.summary())}"
        + (f" Options other than the defaults: {text(options)}." if options else ""),
        f"* student {code(describe(run.student))}",
        f"* data {code(describe(run.data))}, seed {run.seed}, {how.epochs} "
        f"epoch{'s' * (how.epochs > 1)} of batches of {how.batch_size}, {how.optimizer}; the "
        "weights are those of "
        + ("the last epoch" if student.which == "last" else "the best epoch on validation"),
        *_label_loss(run),
        *([f"* trained by {code(trained)}"] if trained else []),
        f"* exported by {code(command)}",
    ]
    cited = f"\n\n```bibtex\n{method.citation()}\n```" if method.bibtex else ""
    return "\n".join(lines) + cited


def _label_loss(run: Run) -> list[str]:
    """A line on weights of classes and smoothing, where there were any."""
    weights = run.class_weights
    said = ["balanced class weights" if isinstance(weights, str) else "class weights"] * bool(
        weights
    )
    said += [f"label smoothing {run.label_smoothing:g}"] * bool(run.label_smoothing)
    return [f"* label's loss with {' and '.join(said)}"] * bool(said)


def _typed(command: str) -> str:
    """A command without the place of the program, which is nobody else's."""
    program, _, words = command.partition(" ")
    return f"{Path(program).name} {words}".strip()


def _teachers(subject: Subject) -> str:
    record = subject.student.record
    summary = record.summary

    def percent(key: str) -> str:
        return f"{100 * summary[key]:.2f} %" if key in summary else ""

    lines = [
        [
            text(row["name"]),
            code(row["spec"]),
            f"{row['parameters']:,}",
            percent(f"accuracy.{row['name']}"),
            percent(f"weights.{row['name']}") or "not heard",
            percent(f"agreement.{row['name']}"),
            text(row.get("licence", UNKNOWN)),
        ]
        for row in record.teachers
    ]
    if not lines:
        return ""
    head = ("teacher", "model", "parameters", "accuracy", "heard", "student agrees", "licence")
    said = (
        "Accuracy and agreement are those of the run, on its evaluation split; *heard* is the mean"
    )
    said += " weight a teacher got over the training images."
    return "\n\n".join([markdown(head, lines), said, *licence_lines(record.teachers)])


def licence_lines(teachers: Sequence[Json]) -> list[str]:
    """A paragraph on what teachers' licences forbid, and on those that nobody knows."""
    read = {row["name"]: read_licence(str(row.get("licence", ""))) for row in teachers}
    lines = [f"* {text(name)}: {text(one.warning)}." for name, one in read.items() if one.warning]
    silent = [text(name) for name, one in read.items() if one.name == UNKNOWN]
    same = [f"{text(name)} ({one.name})" for name, one in read.items() if one.same_terms]
    if same:
        lines.append(f"* What is passed on carries the same terms, by {', '.join(same)}.")
    if silent:
        lines.append(f"* Nothing says under which licence the weights of {', '.join(silent)} are.")
    return ["**Licences of the teachers.**\n\n" + "\n".join(lines)] if lines else []


def _limits(subject: Subject, found: Json) -> str:
    summary = subject.student.record.summary
    lines = [
        "Every image gets one of the classes above, whatever it shows.",
        "Probabilities are not calibrated: the run's expected calibration error was "
        f"{summary.get('ece', float('nan')):.3f}.",
        "Accuracy holds for images like those of the data; nothing is known of others, of groups "
        "of people, or of attacks.",
    ]
    if found["format"] == "pt2":
        lines.append(f"A pt2 file is read by torch {found['torch']} and, as a rule, newer ones.")
    if found["int8"]:
        lines.append(
            "Integers may round otherwise on a CPU without instructions for them (AVX512-VNNI and "
            "the like): measure again there."
        )
    return "\n".join(f"* {line}" for line in lines)


def as_command(words: Sequence[str]) -> str:
    """Words as they are typed."""
    return shlex.join(words)
