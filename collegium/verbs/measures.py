"""The commands that measure: evaluate."""

from pathlib import Path
from typing import Literal

from tyro.conf import OmitArgPrefixes as Flat

from collegium.run import evaluate as evaluate_run
from collegium.training.options import Machine
from collegium.verbs.options import Answer, Call, DataOptions, Flag


def evaluate(
    data: Flat[DataOptions],
    model: str,
    split: Literal["train", "validation", "test"] | None = None,
    labels: Path | None = None,
    batch_size: int = 500,
    machine: Flat[Machine] = Machine(),
    json: Flag = False,
) -> Call:
    """Accuracy, loss and calibration of a network.

    Args:
        data: what it is measured on.
        model: a model string with weights, or a run folder.
        split: which split; by default test, else validation.
        labels: a label map in JSON, where the network's class names are others.
        batch_size: images at a time.
        machine: where it runs.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        result = evaluate_run(
            model,
            data.source,
            split=split,
            batch_size=batch_size,
            machine=machine,
            validation=data.validation,
            seed=data.seed,
            image_size=data.image_size,
            classes=data.chosen,
            labels=labels,
        )
        if "accuracy_known" in result:
            known = f" ({100 * result['accuracy_known']:.2f} % of the {result['images_known']}"
            known += " whose class it knows)"
        else:
            known = ""
        text = (
            f"{100 * result['accuracy']:.2f} % of {result['images']} images of the "
            f"{result['split']} split{known}; cross entropy {result['loss']:.4f}, calibration "
            f"error {result['ece']:.4f}; {result['parameters']:,} parameters, "
            f"{result['images_per_s']:.0f} images/s"
        )
        return Answer(result, text)

    return call
