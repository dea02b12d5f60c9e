"""Plant known bugs, one at a time, in a copy of the checkout, and see that the tests catch each.

A bug is a line of the code replaced by one that somebody has written before. Ends non-zero if one
lives on, or if the line it replaces is no longer there.

    python scripts/plant.py [WORD ...]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/laws", "tests/losses")


@dataclass(frozen=True)
class Bug:
    """One line that is wrong.

    Attributes:
        name: what is wrong.
        file: where, in the package.
        right: the line, or part of it, as it is.
        wrong: what stands there instead.
    """

    name: str
    file: str
    right: str
    wrong: str


BUGS = (
    Bug(
        "temperature squared is lost",
        "losses/response.py",
        "return temperature**2 * kl_divergence(",
        "return kl_divergence(",
    ),
    Bug(
        "temperature on one side",
        "losses/response.py",
        "log_q = F.log_softmax(logits / temperature, dim=-1)\n    divergence = (target",
        "log_q = F.log_softmax(logits, dim=-1)\n    divergence = (target",
    ),
    Bug(
        "mean over classes",
        "losses/response.py",
        "divergence = (target * (_log(target) - log_q)).sum(dim=-1)",
        "divergence = (target * (_log(target) - log_q)).mean(dim=-1)",
    ),
    Bug(
        "reversed KL",
        "losses/response.py",
        "divergence = (target * (_log(target) - log_q)).sum(dim=-1)",
        "divergence = (log_q.exp() * (log_q - _log(target))).sum(dim=-1)",
    ),
    Bug(
        "softmax over the batch",
        "losses/response.py",
        "return torch.softmax(logits / temperature, dim=-1)",
        "return torch.softmax(logits / temperature, dim=0)",
    ),
    Bug(
        "weights over the batch",
        "weighting/latent.py",
        "return torch.softmax((beta_BD * v_D.flatten()) @ theta_TD.mT, dim=1)",
        "return torch.softmax((beta_BD * v_D.flatten()) @ theta_TD.mT, dim=0)",
    ),
    Bug(
        "weights that are not normalised",
        "weighting/posterior.py",
        "return score_BT / score_BT.sum(dim=1, keepdim=True)",
        "return score_BT",
    ),
    Bug(
        "weights that sum to T - 1",
        "weighting/base.py",
        "return (1 - share_BT) / (teachers - 1) if teachers > 1",
        "return (1 - share_BT) if teachers > 1",
    ),
    Bug(
        "sum over teachers in place of a mean",
        "terms/response.py",
        "return (given.weights_BT * each_BT).sum(dim=1)",
        "return each_BT.sum(dim=1)",
    ),
    Bug(
        "the student taught by itself",
        "terms/response.py",
        "targets_BTC = self._soft(teachers_BTC)",
        "targets_BTC = self._soft(logits_BC[:, None].expand_as(teachers_BTC))",
    ),
    Bug(
        "a hint without gradient",
        "terms/feature.py",
        "regressed_BDHW = self.regressor(student_BDHW)",
        "regressed_BDHW = self.regressor(student_BDHW).detach()",
    ),
    Bug(
        "a regressor that is not trained",
        "terms/feature.py",
        "self.requires_grad_(trained)",
        "self.requires_grad_(False)",
    ),
    Bug(
        "a gradient to the teacher's map",
        "terms/feature.py",
        "teacher_BDHW = teacher_BDHW.detach()",
        "teacher_BDHW = teacher_BDHW * 1",
    ),
    Bug(
        "deviation with C in its denominator",
        "losses/response.py",
        "(logits.shape[-1] - 1)",
        "logits.shape[-1]",
    ),
    Bug(
        "the target's own class left among the others",
        "losses/response.py",
        "others = log_p.scatter(-1, true, -torch.inf)",
        "others = log_p.clone()",
    ),
    Bug(
        "correlation without the mean taken off",
        "losses/response.py",
        "(values - values.mean(dim=dim, keepdim=True) for values",
        "(values - 0 * values.mean(dim=dim, keepdim=True) for values",
    ),
    Bug(
        "rows of similarities as they come",
        "losses/relation.py",
        "return F.normalize(products_BB, dim=1)",
        "return products_BB",
    ),
    Bug(
        "draws from the global generator",
        "weighting/latent.py",
        "torch.randn(width, generator=generator_for(name, seed))",
        "torch.randn(width)",
    ),
    Bug(
        "latent vectors by place, not by name",
        "weighting/latent.py",
        "generator=generator_for(name, seed)) for name in teachers]",
        "generator=generator_for(str(n), seed)) for n, _ in enumerate(teachers)]",
    ),
    Bug(
        "the feature's gradient not cut off",
        "weighting/posterior.py",
        'beta_BD = unit_length(pool(student.last_map_BDHW, "avg").detach())',
        'beta_BD = unit_length(pool(student.last_map_BDHW, "avg"))',
    ),
    Bug(
        "a teacher heard where it does not know the class",
        "objective.py",
        "return only_known(weights_BT, teachers.knowing(labels_B))",
        "return weights_BT",
    ),
    Bug(
        "a mask that is ignored",
        "objective.py",
        "said_BTC = complete(said_BTC, student_BC, self.teachers.groups_TC)",
        "said_BTC = said_BTC + 0 * student_BC[:, None]",
    ),
    Bug(
        "a coarse answer taken as a fine one",
        "weighting/known.py",
        "mass_BT1 * ratio_BTC * _by_group(said_BTC, groups_TC)",
        "mass_BT1 * said_BTC",
    ),
)


def plant(bug: Bug, copy: Path) -> str:
    """Put one bug into the copy, run the tests, take it out; gives the first test that failed."""
    path = copy / "collegium" / bug.file
    text = path.read_text()
    if text.count(bug.right) != 1:
        raise SystemExit(f"{bug.name}: {bug.file} has {text.count(bug.right)} of {bug.right!r}")
    path.write_text(text.replace(bug.right, bug.wrong))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
        )
    finally:
        path.write_text(text)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].partition(" - ")[0] if done.returncode else ""


def main() -> int:
    """Every bug, or those whose name holds one of the words."""
    words = sys.argv[1:]
    chosen = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copy(ROOT / "pyproject.toml", copy)
        for part in ("collegium", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for bug in chosen:
            caught = plant(bug, copy)
            alive += not caught
            print(f"{'caught' if caught else 'ALIVE '}  {bug.name}: {caught}", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} planted bugs are caught")
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())
