"""The commands on a run's student: export, predict."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from collegium.cli.options import Answer, Command, Folder, QuietCommand
from collegium.config.option import Option
from collegium.export.options import ExportOptions, Which


@dataclass(frozen=True, kw_only=True)
class Export(QuietCommand):
    """The student of a run alone, for use elsewhere: written, read again, compared, described."""

    folder: Folder
    """The run folder."""
    writing: ExportOptions
    out: Path | None = None
    """Folder for the files; by default export/FORMAT in the run folder."""
    data: str | None = None
    """Where the run's data are, if they have moved."""
    overwrite: bool = False
    """Replace the export that is in the folder."""

    def run(self) -> Answer:
        """Export the student."""
        from collegium.export.paths import free_place, refuse_unfinished

        # Before torch is imported.
        free_place(refuse_unfinished(self.folder), self.writing, self.out, self.overwrite)
        from collegium.export.export import export_student
        from collegium.export.tables import terminal

        where = self.given("out", "data", "overwrite", "quiet")
        found = export_student(self.folder, **where, **vars(self.writing))
        return Answer(found, terminal(found))


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Classes that a run's student gives to images: FOLDER IMAGE [IMAGE ...]."""

    folder: Folder
    """The run folder."""
    images: Annotated[tuple[Path, ...], Option(positional=True)] = ()
    """Image files, or folders of them."""
    top: int = 5
    """How many classes of each image, the most probable first."""
    weights: Which = "last"
    """The student after the last epoch, or of the best."""

    def run(self) -> Answer:
        """Classify the images."""
        from collegium.export.paths import check_images, refuse_unfinished

        check_images(self.images, self.top)
        refuse_unfinished(self.folder)
        from collegium.export.predict import predict
        from collegium.utils.progress import Display

        tell = Display(quiet=True, label="predict").warn
        found = predict(self.folder, self.images, top=self.top, weights=self.weights, tell=tell)
        width = max(len(row["image"]) for row in found)
        lines = []
        for row in found:
            pairs = zip(row["classes"], row["probabilities"], strict=True)
            classes = "  ".join(f"{name} {100 * share:.1f} %" for name, share in pairs)
            lines.append(f"{row['image']:<{width}}  {classes}")
        return Answer({"folder": str(self.folder), "predictions": found}, "\n".join(lines))
