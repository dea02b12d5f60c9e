"""Settings of amtml on CIFAR-10 with the real ResNet-32/44/56 as teachers; one JSON line a run.

Cut down openly: a student `cifar:resnet8`, the first N training images that are left when
validation is held out, no augmentation (so that teachers run once for all settings), few epochs,
bfloat16. Choose by `validation`; `test` is reported, never chosen by.

    python benchmarks/amtml_cifar.py --data DIR --weights DIR --settings uniform alone rate=0.1
"""

import argparse
import json
import tempfile
from pathlib import Path

from amtml_defaults import parse

from collegium.data import ImageData, Splits, load_data
from collegium.run import Run, execute
from collegium.training.options import Machine, Optimisation, Storage

TEACHERS = ("resnet32", "resnet44", "resnet56")


def subset(data: ImageData, count: int) -> ImageData:
    """The first examples of a split."""
    return data.subset(range(min(count, len(data))))


def main() -> None:
    """Every setting with every seed, paired."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--student", default="cifar:resnet8")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--settings", nargs="+", required=True)
    options = parser.parse_args()

    whole = load_data(f"cifar10:{options.data}", validation=0.1, seed=0)
    assert whole.validation is not None
    assert whole.test is not None
    splits = Splits(subset(whole.train, options.images), subset(whole.validation, 2000), whole.test)
    teachers = {name: f"cifar:{name}@{options.weights}/{name}.safetensors" for name in TEACHERS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for place, text in enumerate(options.settings):
                method = parse(text)
                run = Run(
                    data=splits,
                    student=options.student,
                    teachers=teachers if method.hears_teachers else {},
                    method=method,
                    optimisation=Optimisation(epochs=options.epochs),
                    machine=Machine(precision="bf16"),
                    storage=Storage(f"{folder}/store", "fp32", "fp16"),
                    seed=seed,
                    augment="none",
                )
                record = execute(run, Path(folder) / f"{place}-{seed}", quiet=True)
                lines = record.metrics("train")[-1]
                kept = {k: v for k, v in lines.items() if k.startswith("weights")}
                row = {"regime": "alike", "setting": text, "seed": seed}
                row |= {"validation": record.metrics("validation")[-1]["accuracy"]}
                row |= {"test": record.summary["accuracy_last"], **kept}
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
