"""The commands on a run's student: export, predict."""

from pathlib import Path

import tyro
from tyro.conf import OmitArgPrefixes as Flat

from collegium.cli.options import Answer, Call, Flag
from collegium.export.options import ExportOptions, Which
from collegium.export.paths import check_images, free_place, refuse_unfinished


def export(
    folder: tyro.conf.Positional[Path],
    writing: Flat[ExportOptions],
    out: Path | None = None,
    data: str | None = None,
    overwrite: Flag = False,
    quiet: Flag = False,
    json: Flag = False,
) -> Call:
    """The student of a run alone, for use elsewhere; read again, compared, measured, described.

    Args:
        folder: of the run.
        writing: what and how.
        out: folder for the files; by default export/FORMAT in the run folder.
        data: where the run's data are, if they are elsewhere now.
        overwrite: replace the export that is in the folder.
        quiet: show no progress.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        free_place(refuse_unfinished(folder), writing, out, overwrite)  # before torch is imported
        from collegium.export.export import export_student
        from collegium.export.tables import terminal

        found = export_student(
            folder, out=out, data=data, overwrite=overwrite, quiet=quiet, **vars(writing)
        )
        return Answer(found, terminal(found))

    return call


def predict(
    folder: tyro.conf.Positional[Path],
    images: tyro.conf.Positional[tuple[Path, ...]],
    top: int = 5,
    weights: Which = "last",
    json: Flag = False,
) -> Call:
    """What a run's student says of pictures: FOLDER IMAGE [IMAGE ...].

    Args:
        folder: of the run.
        images: picture files, or folders of them.
        top: so many classes of each, the most probable first.
        weights: the student after the last epoch, or of the best.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        check_images(images, top)
        refuse_unfinished(folder)
        from collegium.export.predict import predict as ask
        from collegium.utils.progress import Display

        tell = Display(quiet=True, label="predict").warn
        found = ask(folder, images, top=top, weights=weights, tell=tell)
        width = max(len(row["image"]) for row in found)
        lines = []
        for row in found:
            pairs = zip(row["classes"], row["probabilities"], strict=True)
            said = "  ".join(f"{name} {100 * share:.1f} %" for name, share in pairs)
            lines.append(f"{row['image']:<{width}}  {said}")
        return Answer({"folder": str(folder), "predictions": found}, "\n".join(lines))

    return call
