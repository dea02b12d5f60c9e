"""Settings of amtml on CIFAR-10 with the real ResNet-32/44/56 as teachers; one JSON line a run.

Cut down openly: a student `cifar:resnet8`, the first N training images that are left when
validation is held out, no augmentation (so that teachers run once and their answers are kept in
memory), few epochs, bfloat16. Choose by `validation`; `test` is reported, never chosen by.

    python benchmarks/amtml_cifar.py --data DIR --weights DIR --settings uniform alone rate=0.1
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from amtml_defaults import parse
from torch import Tensor

from collegium.assembly import setting_of
from collegium.data import ImageData, Splits, load_data
from collegium.models.specs import build_network
from collegium.run import Run
from collegium.session import Session
from collegium.teachers import AbstractTeacherSource
from collegium.training.options import Machine, Optimisation
from collegium.types import Batch, TeacherOutputs

TEACHERS = ("resnet32", "resnet44", "resnet56")


class Remembered(AbstractTeacherSource):
    """Asks a live source once for each example and answers from memory after that."""

    def __init__(self, source: AbstractTeacherSource, memory: dict[int, TeacherOutputs]) -> None:
        self.names, self._source, self._memory = source.names, source, memory

    def outputs(self, batch: Batch) -> TeacherOutputs:
        """The kept answers, stacked."""
        keys = batch.index_B.tolist()
        if any(key not in self._memory for key in keys):
            self._keep(keys, self._source.outputs(batch))
        rows = [self._memory[key] for key in keys]
        maps = {
            name: {path: _stack([row.maps[name][path] for row in rows]) for path in layers}
            for name, layers in rows[0].maps.items()
        }
        return TeacherOutputs(_stack([row.logits_BTC for row in rows]), maps)

    def _keep(self, keys: list[int], said: TeacherOutputs) -> None:
        for place, key in enumerate(keys):
            one = slice(place, place + 1)
            maps = {
                name: {path: feature[one].clone() for path, feature in layers.items()}
                for name, layers in said.maps.items()
            }
            self._memory[key] = TeacherOutputs(said.logits_BTC[one].clone(), maps)


def _stack(rows: list[Tensor]) -> Tensor:
    return torch.cat(rows)


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
    setting = setting_of(splits.train)
    specs = {name: f"cifar:{name}@{options.weights}/{name}.safetensors" for name in TEACHERS}
    teachers = {name: build_network(spec, setting) for name, spec in specs.items()}
    memories: dict[str, dict[int, TeacherOutputs]] = {}
    for seed in range(options.seeds):
        for text in options.settings:
            method = parse(text)
            run = Run(
                data=splits,
                student=options.student,
                teachers=teachers if method.hears_teachers else {},
                method=method,
                optimisation=Optimisation(epochs=options.epochs, batch_size=128),
                machine=Machine(precision="bf16"),
                seed=seed,
                augment="none",
            )
            with tempfile.TemporaryDirectory() as folder:
                session = Session(run, Path(folder) / "run", quiet=True)
                if method.hears_teachers:
                    kind = str(session.learner.objective.layers)
                    memory = memories.setdefault(kind, {})
                    session.source = Remembered(session.source, memory)  # type: ignore[assignment]
                session._close = lambda *_: None  # type: ignore[method-assign]
                record = session.carry_out()
                lines = record.metrics("train")[-1]
                found = record.metrics("validation")[-1]["accuracy"]
            test = session._predict(session.student, splits.evaluation).accuracy
            kept = {k: v for k, v in lines.items() if k.startswith("weights") and k != "warning"}
            row = {"regime": "alike", "setting": text, "seed": seed, "validation": found}
            print(json.dumps({**row, "test": test, **kept}), flush=True)


if __name__ == "__main__":
    main()
