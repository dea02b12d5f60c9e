"""Does it matter who is heard? Every method where teachers are alike, unequal, specialists, unseen.

    python benchmarks/regimes.py OUT --data digits --splits 5 --seeds 2 --methods avg_mkd,gated
    python benchmarks/regimes.py OUT --data cifar10:DIR --weights WEIGHTS --student cifar:resnet8

For each split of the data teachers are trained with the library, as `collegium train` does,
and each regime is one `collegium compare` in OUT/REGIME/split-N on an image folder of few labels;
what is there already is used. The tables of all splits are pooled into OUT/REGIME.md (and .json),
with the teachers' accuracies and the head-room beside: best single teacher, mean of their
probabilities, best fixed mixture (found on the test split: an upper bound) and per-example oracle.

alike         three sound teachers that saw all training images
unequal       one good, one stopped early, one that calls every class by the next one's name
overconfident two good ones and one stopped early whose logits are multiplied by 5
subsets       three teachers, each trained on five of the ten classes, with outputs for all ten
specialists   the same with outputs for their five classes alone, so that it is known what they know
domains       images as they are, inverted, and turned; each teacher was trained on one kind alone
unseen        three teachers trained on other images than the student
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import safe_open, save_file
from torch import Tensor

from collegium.api import execute
from collegium.build import input_spec_of, make_splits, make_teacher, relate
from collegium.comparison.run import compare
from collegium.config.options import Machine, Optimisation, Storage
from collegium.config.run import Run
from collegium.data import ImageData, Splits, load_data
from collegium.evaluation.predict import predict
from collegium.methods.method_string import read_rows
from collegium.records.comparison import Json, Outcomes, make_table, markdown
from collegium.records.run_folder import Record

SUBSETS = ((0, 1, 2, 3, 4), (3, 4, 5, 6, 7), (6, 7, 8, 9, 0))
GOOD = {"unequal": ("good",), "overconfident": ("good", "second")}


@dataclass(frozen=True)
class World:
    """What is particular to a data set.

    Attributes:
        teachers: networks of sound teachers, by name.
        student_images: labelled images the student learns from.
        teacher_images: labelled images the teachers learn from, the student's among them.
        test_images: images the result is measured on.
        teacher_epochs: of a sound teacher.
        early_epochs: of the one that is stopped early.
        epochs: of the student.
        batch_size: of everybody.
        precision: of everybody.
    """

    teachers: dict[str, str]
    student_images: int
    teacher_images: int
    test_images: int
    teacher_epochs: int
    early_epochs: int
    epochs: int
    batch_size: int
    precision: str


WORLDS = {
    "digits": World(
        {"wide": "small:cnn-wide", "residual": "small:resnet", "third": "small:cnn-wide"},
        300, 1100, 600, 12, 1, 40, 32, "32",
    ),
    "cifar10": World(
        dict.fromkeys(("first", "second", "third"), "cifar:resnet20"),
        4000, 12000, 4000, 14, 1, 12, 64, "bf16",
    ),
}  # fmt: skip


class Bench:
    """One split of one data set, its teachers and its folders.

    Args:
        out: folder of everything.
        data: a data string.
        weights: folder of CIFAR-10 ResNets, or None.
        split: number of the split.
        changes: what is other than the world has it.
    """

    def __init__(
        self, out: Path, data: str, weights: Path | None, split: int, **changes: Any
    ) -> None:
        self.world = world = replace(WORLDS[data.partition(":")[0]], **changes)
        self.out, self.weights, self.split = out, weights, split
        whole = load_data(data, validation=0.0)
        rest = torch.Generator().manual_seed(split)
        train, test = whole.train, whole.evaluation
        if data == "digits":  # one pool, cut anew by every split
            test = train = _joined(train, test)
        order = torch.randperm(len(train), generator=rest)
        held = torch.randperm(len(test), generator=rest)[: world.test_images]
        if data == "digits":
            held, order = order[: world.test_images], order[world.test_images :]
        self.test = test.subset(held)
        self.student = train.subset(order[: world.student_images])
        self.pool = train.subset(order[: world.teacher_images])
        self.others = train.subset(order[world.student_images : world.teacher_images])

    def teachers(self, regime: str) -> dict[str, str]:
        """Model strings of a regime's teachers, trained if they are not there."""
        names, specs = list(self.world.teachers), list(self.world.teachers.values())
        if regime == "alike" and self.weights is not None:
            return {f"r{depth}": self._given(depth) for depth in (32, 44, 56)}
        if regime == "subsets":
            parts = [self._of_classes(self.pool, known) for known in SUBSETS]
            return {
                name: self._trained(f"subset-{name}", spec, part, place)
                for place, (name, spec, part) in enumerate(zip(names, specs, parts, strict=True))
            }
        if regime == "specialists":
            return {
                name: self._trained(f"specialist-{name}", spec, self.pool, place, known=known)
                for place, (name, spec, known) in enumerate(zip(names, specs, SUBSETS, strict=True))
            }
        if regime == "domains":
            return {
                name: self._trained(f"domain-{name}", spec, _seen(self.pool, kind), place)
                for place, (name, spec, kind) in enumerate(zip(names, specs, KINDS, strict=True))
            }
        if regime == "unseen":
            return {
                name: self._trained(f"unseen-{name}", spec, self.others, place)
                for place, (name, spec) in enumerate(zip(names, specs, strict=True))
            }
        sound = {
            name: self._given(depth)
            if self.weights is not None
            else self._trained(f"sound-{name}", spec, self.pool, place)
            for place, (name, spec, depth) in enumerate(
                zip(names, specs, (56, 44, 32), strict=True)
            )
        }
        if regime == "alike":
            return sound
        early = self._trained("early", specs[0], self.pool, 9, self.world.early_epochs)
        good, second, *_ = sound.values()
        if regime == "unequal":
            return {"good": good, "early": early, "permuted": self._changed(second, "permuted")}
        loud = self._changed(early, "loud")
        return {"good": good, "second": second, "loud": loud}

    def folder(self, regime: str) -> Path:
        """The image folder a regime's student learns from."""
        folder = self.out / "data" / ("domains" if regime == "domains" else "plain")
        folder = folder / f"split-{self.split}"
        if not (folder / "done").is_file():
            mixed = _mixed if regime == "domains" else lambda data: data
            for name, part in {"train": self.student, "test": self.test}.items():
                _write(mixed(part), folder / name)
            (folder / "done").touch()
        return folder

    def _given(self, depth: int) -> str:
        return f"cifar:resnet{depth}@{self.weights}/resnet{depth}.safetensors"

    def _of_classes(self, data: ImageData, known: tuple[int, ...]) -> ImageData:
        return data.subset(torch.isin(data.labels_N, torch.tensor(known)))

    def _trained(
        self,
        name: str,
        spec: str,
        data: ImageData,
        seed: int,
        epochs: int | None = None,
        known: tuple[int, ...] = (),
    ) -> str:
        folder = self.out / "teachers" / f"split-{self.split}" / name
        if not (folder / "student.safetensors").is_file():
            run = Run(
                data=Splits(data, None, self.test),
                student=spec,
                optimisation=Optimisation(epochs=epochs or self.world.teacher_epochs),
                machine=Machine(precision=self.world.precision),  # type: ignore[arg-type]
                seed=1000 * self.split + seed,
                classes=tuple(data.classes[label] for label in known),
            )
            execute(run, folder, overwrite=folder.is_dir(), quiet=True)
        return str(folder)

    def _changed(self, model: str, how: str) -> str:
        """A copy of a trained network whose answers are permuted, or too loud."""
        spec, _, file = model.partition("@")
        source = Path(file) if file else Path(model) / "student.safetensors"
        target = self.out / "teachers" / f"split-{self.split}" / f"{how}.safetensors"
        with safe_open(source, "pt") as opened:
            metadata = opened.metadata()
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        for key in ("linear.weight", "linear.bias"):
            tensors[key] = 5 * tensors[key] if how == "loud" else tensors[key].roll(1, 0)
        save_file({key: value.contiguous() for key, value in tensors.items()}, target, metadata)
        return f"{spec if file else metadata['architecture']}@{target}"


def _joined(first: ImageData, second: ImageData) -> ImageData:
    images = torch.cat([first.images_NDHW, second.images_NDHW])
    labels = torch.cat([first.labels_N, second.labels_N])
    index = torch.arange(len(labels))
    return replace(first, images_NDHW=images, labels_N=labels, index_N=index, origin=None)


KINDS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda images: images,
    lambda images: 255 - images,
    lambda images: images.rot90(1, (-2, -1)),
)


def _seen(data: ImageData, kind: Callable[[Tensor], Tensor]) -> ImageData:
    return replace(data, images_NDHW=kind(data.images_NDHW).contiguous(), origin=None)


def _mixed(data: ImageData) -> ImageData:
    images = data.images_NDHW.clone()
    for place, kind in enumerate(KINDS):
        images[place::3] = kind(images[place::3])
    return replace(data, images_NDHW=images, origin=None)


def _write(data: ImageData, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pixels = data.images_NDHW
    if pixels.is_floating_point():
        pixels = (255 * pixels).round().to(torch.uint8)
    for place, (image, label) in enumerate(zip(pixels, data.labels_N.tolist(), strict=True)):
        path = folder / data.classes[label] / f"{place:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        array = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        Image.fromarray(array.numpy()).save(path)


def pooled(
    bench: Bench, regime: str, options: argparse.Namespace, found: dict[str, Outcomes]
) -> None:
    """Compare on one split, and add what came out to what others gave."""
    methods = _with_good(regime, options.methods)
    rows = read_rows(methods, 4.0, 0.9, label_weight=options.label_weight)
    world, out = bench.world, options.out / regime / f"split-{bench.split}"
    base = Run(
        data=f"folder:{bench.folder(regime)}",
        student=options.student or "small:cnn",
        teachers=bench.teachers(regime),
        optimisation=Optimisation(epochs=world.epochs, batch_size=world.batch_size, lr=options.lr),
        machine=Machine(precision=world.precision),  # type: ignore[arg-type]
        storage=Storage(store_hints="fp16"),
        augment="crop-flip" if options.data != "digits" else "none",
        validation=options.validation,
    )
    compare(base, rows, options.seeds, out, jobs=options.jobs, control="avg_mkd", quiet=True)
    for row in rows:
        name = "good only" if row.name.startswith("fixed:shares=good=1") else row.name
        runs = found.setdefault(name, Outcomes(name, False, {}, {})).runs
        for seed, summary in _summaries(out, row.name):
            runs[1000 * bench.split + seed] = summary  # type: ignore[index]


def _with_good(regime: str, methods: str) -> str:
    good = "+".join(f"{name}=1" for name in GOOD.get(regime, ()))
    return f"{methods},fixed:shares={good}" if good else methods


def _summaries(out: Path, row: str) -> Iterator[tuple[int, Json]]:
    from collegium.comparison.run import _summary  # what the table of one comparison is made of
    from collegium.methods.method_string import folder_name

    for folder in sorted((out / "runs" / folder_name(row)).glob("seed-*")):
        if (folder / "summary.json").is_file():
            yield int(folder.name.removeprefix("seed-")), _summary(Record(folder))


@torch.no_grad()
def head_room(bench: Bench, regime: str) -> Json:
    """What the teachers are worth on the test images, alone and together."""
    splits = make_splits(f"folder:{bench.folder(regime)}", 0.1, 0, None)
    input_spec, data = input_spec_of(splits.train), splits.evaluation
    logits = {}
    for name, spec in bench.teachers(regime).items():
        teacher = make_teacher(name, spec, input_spec)
        labels = relate(name, teacher.classes, data.classes)
        logits[name] = predict(teacher, data, labels=labels).logits_NC
    probs_NTC = torch.stack(list(logits.values()), dim=1).softmax(dim=2)
    right_NT = probs_NTC.argmax(dim=2) == data.labels_N[:, None]
    grid = torch.cartesian_prod(*[torch.arange(11)] * probs_NTC.shape[1])
    shares_KT = grid[grid.sum(dim=1) == 10] / 10
    mixed = [_accuracy((probs_NTC * share[:, None]).sum(dim=1), data) for share in shares_KT]
    return {
        **{f"teacher.{name}": _accuracy(value, data) for name, value in logits.items()},
        "mean": _accuracy(probs_NTC.mean(dim=1), data),
        "best fixed mixture": max(mixed),
        "oracle": right_NT.any(dim=1).float().mean().item(),
    }


def _accuracy(scores_NC: Tensor, data: ImageData) -> float:
    return (scores_NC.argmax(dim=1) == data.labels_N).float().mean().item()


def overview(out: Path, regimes: list[str]) -> str:
    """All regimes in one table: each row's accuracy minus that of the plain mean."""
    tables = {name: json.loads((out / f"{name}.json").read_text()) for name in regimes}
    lines = {
        regime: {line["method"]: line for line in table["rows"]} for regime, table in tables.items()
    }
    methods = list(dict.fromkeys(name for found in lines.values() for name in found))
    head = [f"{name} ({_percent(lines[name]['avg_mkd'])})" for name in regimes]
    rows = [["method", *head], ["---"] * (len(head) + 1)]
    for method in methods:
        if method != "avg_mkd":
            cells = [_against_mean(lines[regime].get(method)) for regime in regimes]
            rows.append([f"`{method}`" if method != "good only" else method, *cells])
    for key in ("mean", "best fixed mixture", "oracle"):
        rooms = [100 * tables[regime]["head_room"][key] for regime in regimes]
        rows.append([f"*teachers: {key}*", *(f"*{room:.1f} %*" for room in rooms)])
    teachers = [
        ", ".join(
            f"{100 * value:.1f}"
            for key, value in tables[regime]["head_room"].items()
            if key.startswith("teacher.")
        )
        for regime in regimes
    ]
    rows.append(["*teachers: each*", *(f"*{text} %*" for text in teachers)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _percent(line: Json) -> str:
    return f"{100 * line['accuracy_last']:.1f} %"


def _against_mean(line: Json | None) -> str:
    if line is None or line["minus_control"] is None:
        return "-"
    half = line["minus_control_half_width"]
    return f"{line['minus_control']:+.2f}" + ("" if half is None else f" ± {half:.2f}")


def main() -> None:
    """Every regime, split by split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--student")
    parser.add_argument("--regimes", nargs="+", default=["alike", "unequal", "subsets", "unseen"])
    parser.add_argument("--methods", default="avg_mkd,amtml,gated")
    parser.add_argument(
        "--label-weight",
        type=lambda text: None if text == "none" else float(text),
        default=1.0,
        help="of rows that name none; none for 1 - alpha, which was the default at first",
    )
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="of the student")
    parser.add_argument("--lr", type=float, help="of the student; give each an OUT")
    parser.add_argument("--images", type=int, help="labelled images of the student")
    parser.add_argument("--precision", help="of everybody: bf16 is slow on CPUs without it")
    parser.add_argument("--validation", type=float, default=0.1)
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    asked = {
        "student_images": options.images,
        "epochs": options.epochs,
        "precision": options.precision,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    for regime in options.regimes:
        found: dict[str, Outcomes] = {}
        rooms: list[dict[str, Any]] = []
        for split in range(options.splits):
            bench = Bench(options.out, options.data, options.weights, split, **changes)
            pooled(bench, regime, options, found)
            rooms.append(head_room(bench, regime))
        table = make_table(list(found.values()), "avg_mkd")
        table["head_room"] = {
            key: sum(room[key] for room in rooms) / len(rooms) for key in rooms[0]
        }
        said = ", ".join(f"{key} {100 * value:.2f}" for key, value in table["head_room"].items())
        (options.out / f"{regime}.json").write_text(json.dumps(table, indent=2) + "\n")
        (options.out / f"{regime}.md").write_text(f"{markdown(table)}\nHead-room: {said}\n")
        print(f"## {regime}\n\n{markdown(table)}\nHead-room: {said}\n", flush=True)
    print(overview(options.out, options.regimes))


if __name__ == "__main__":
    main()
