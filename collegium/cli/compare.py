"""The command compare."""

from dataclasses import dataclass, field
from pathlib import Path

from collegium.cli.options import Answer, QuietCommand, StudentCommand, require_teachers
from collegium.config.options import Storage
from collegium.methods.base import ALPHA, LABEL_WEIGHT, TEMPERATURE
from collegium.models.model_string import check_models


@dataclass(frozen=True, kw_only=True)
class Compare(StudentCommand, QuietCommand):
    """Several methods on the same splits, starts and batches: --data D --student M --methods a,b.

    Finished runs in the folder are used, and stopped ones continue.
    """

    methods: str
    """SLUG[:option=value...], comma-separated; the student alone is always compared too."""
    out: Path
    """Folder of the comparison."""
    seeds: int = 3
    """How many seeds, counted from --seed; each decides splits, start and order."""
    control: str | None = None
    """The row that others are compared with; by default avg_mkd, else the student alone."""
    published: bool = False
    """Add each method once more with its paper's settings."""
    temperature: float = TEMPERATURE
    """Temperature of all soft targets that name none."""
    alpha: float = ALPHA
    """Weight of all soft targets that name none."""
    label_weight: float | None = LABEL_WEIGHT
    """Weight of the label beside teachers in all rows that name none; None for what alpha leaves
    of 1."""
    jobs: int | None = None
    """Runs at a time; by default one for each core, each with one thread."""
    tensorboard: bool = False
    """Write metrics of every run as TensorBoard events too (needs the extra of that name)."""
    storage: Storage = field(default_factory=lambda: Storage(store_hints="fp16"))

    def run(self) -> Answer:
        """Run every method with every seed."""
        from collegium.methods.method_string import read_rows

        strength = (self.temperature, self.alpha, self.published, self.label_weight)
        rows = read_rows(self.methods, *strength)
        base = self.base()
        check_models(base.student, *base.teachers.values())
        alone = not any(row.method.uses_teachers for row in rows)
        require_teachers("a method", alone or base.teachers)
        from collegium.comparison.run import compare
        from collegium.records.comparison import markdown

        how = self.given("control", "jobs", "tensorboard", "quiet")
        table = compare(base, rows, self.seeds, self.out, **how)
        text = markdown(table) + f"\nresults saved to {self.out}"
        failed = any(line["failures"] for line in table["rows"])
        return Answer({**table, "folder": str(self.out)}, text, exit_code=int(failed))
