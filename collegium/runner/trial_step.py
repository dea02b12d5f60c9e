"""Tries one training step on a copy of the student, before anything is written.

A network can behave differently in training than in evaluation: auxiliary classifiers, statistics
over the batch, calls of `view` that fail on a memory format. `try_step` raises an error if the
first step would fail, and drops channels-last with a note if the network does not work in that
format. It changes neither weights nor buffers nor random states.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from collegium.config.options import Machine
from collegium.errors import RequestError
from collegium.methods.base import require
from collegium.models.network import Network
from collegium.models.outputs import describe_output, logits_of
from collegium.models.state import pack_state, unpack_state
from collegium.models.user_modules import evaluating, spare
from collegium.objectives.objective import Objective
from collegium.teachers.optimize import EXACT, moved, to_channels_last
from collegium.types import MapShape
from collegium.utils.memory import ran_out
from collegium.utils.text import first_line
from collegium.weighting.gradient import GradientWeighting

LONGEST = 20.0
"""Approximate limit for a trial step in seconds; larger batches are left out or shortened."""
STEP = 4
"""Approximate duration of a step, in forward passes in evaluation mode."""


def try_step(
    student: Network,
    image_shape: MapShape,
    sizes: Sequence[int],
    precision: Callable[[], AbstractContextManager[object]],
    machine: Machine,
) -> tuple[bool, list[str]]:
    """Try one training step on a copy of the student.

    Args:
        student: the student on its device, as it will be trained; not changed.
        image_shape: shape of a view.
        sizes: the numbers of views that forward passes of the training will have.
        precision: returns the autocast context of a forward pass.
        machine: its `channels_last` says whether to try that memory format.

    Returns:
        Whether channels-last can be used, and notes for the user.

    Raises:
        RequestError: the step fails, no parameter gets a gradient, or the state cannot be saved
            and loaded.
    """
    trial = _Trial(student, image_shape, sorted({min(sizes), max(sizes)}), precision)
    channels_last = machine.channels_last
    problem = trial.attempt(channels_last)
    notes = trial.notes
    if channels_last and problem:
        dropped, problem = trial.reason or problem, trial.attempt(channels_last=False)
        notes = [f"not channels-last: {dropped}", *trial.notes]
        channels_last = False
    if problem:
        trial.precision = nullcontext
        if machine.precision != "32" and not trial.attempt(channels_last=False):
            problem = f"{problem}; it does in float32: leave out --precision"
        raise RequestError(problem)
    return channels_last, notes


def part_sizes(batches: Sequence[int], parts: int) -> list[int]:
    """Numbers of views in the parts of batches, as `DistillBatch.parts` splits them.

    >>> part_sizes([8, 5], 2)
    [4, 4, 3, 2]
    """
    return [len(part) for size in batches for part in torch.empty(size).split(-(-size // parts))]


def parts_warning(
    student: nn.Module, objective: Objective, size: int, micro_batches: int, processes: int
) -> str:
    """A warning if batches are split into parts and this changes the result; empty otherwise."""
    if micro_batches == processes == 1:
        return ""
    norms = sum(isinstance(m, _BatchNorm) and m.training for m in student.modules())
    why = [f"BatchNorm ({norms}) takes its statistics"] if norms else []
    related = [name for name, term in objective.terms.items() if not term.pointwise]
    why += [f"{' and '.join(related)} compare examples"] if related else []
    shared = isinstance(objective.weighting, GradientWeighting)
    why += ["the teachers' weights are found once for all examples"] if shared else []
    if not why:
        return ""
    split = f"--micro-batches {micro_batches}" if micro_batches > 1 else f"--devices {processes}"
    return (
        f"{split}: not the same step as with whole batches, so accuracy can differ: "
        f"{', and '.join(why)} within parts of {size} examples"
    )


@dataclass
class _Trial:
    """Trial steps on copies of a student; see `try_step`."""

    student: Network
    shape: MapShape
    sizes: Sequence[int]
    precision: Callable[[], AbstractContextManager[object]]
    notes: list[str] = field(default_factory=list)
    reason: str = ""  # the first line of the exception, without context

    def attempt(self, channels_last: bool) -> str:
        """The error of evaluation or of a training step, in one line; empty if there is none."""
        self.notes = []
        with spare(self.student, "the student") as trial:
            try:
                self.sizes = self._affordable(trial)
                if channels_last:
                    self._lay_out(trial)
                self._steps(trial, channels_last)
            except RequestError as error:
                return str(error)
            except Exception as error:  # A user's forward or backward can raise anything.
                if ran_out(error):  # The run itself raises an error with advice.
                    return ""
                self.reason = first_line(error)
                size, counts = "x".join(map(str, self.shape)), " and ".join(map(str, self.sizes))
                return (
                    f"the student {self.student.spec} takes one view in evaluation and does not "
                    f"survive a step of training on {counts} views of {size}: {self.reason}"
                )
        return ""

    def _views(self, count: int, trial: Network, channels_last: bool = False) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        views_BDHW = torch.rand(count, *self.shape, generator=generator).to(trial.mean.device)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return views_BDHW.contiguous(memory_format=layout)

    def _affordable(self, trial: Network) -> list[int]:
        """The sizes that fit the time limit, estimated from the time of one view."""
        views_BDHW = self._views(1, trial)
        with torch.no_grad(), self.precision(), evaluating(trial):
            trial(views_BDHW)  # warm-up
            started = time.perf_counter(), time.process_time()
            trial(views_BDHW).cpu()  # cpu() waits for an asynchronous device
        # On a busy machine, CPU time leaves out the time of other processes.
        seconds = min(time.perf_counter() - started[0], time.process_time() - started[1])
        most = LONGEST / (STEP * seconds + 1e-9)
        few = [size for size in self.sizes if size <= most]
        return few or [min([*self.sizes, max(2, int(most))])]

    def _lay_out(self, trial: Network) -> None:
        """Convert to channels-last, and check the logits for images in both memory formats."""
        count = self.sizes[0]
        with torch.no_grad(), self.precision(), evaluating(trial):
            torch.manual_seed(0)
            before_BC = trial(self._views(count, trial)).float()
            to_channels_last(trial)
            for layout in (False, True):
                torch.manual_seed(0)
                after_BC = trial(self._views(count, trial, layout)).float()
                change = moved(before_BC, after_BC).amax().item()
                require(
                    change <= EXACT, f"a logit moved by {change:.2g} deviations, bound {EXACT:g}"
                )

    def _steps(self, trial: Network, channels_last: bool) -> None:
        # student.safetensors has the state of the backbone, a checkpoint that of the network.
        _check_state(trial.body)
        _check_state(trial)
        before, trained = _Saved(trial), dict(trial.body.named_parameters())
        trial.train()
        unsaved = {name: buffer.clone() for name, buffer in _unsaved(trial.body)}
        self._batches(trial, channels_last)
        before.check_exchangeable(trial)
        for name, parameter in trial.body.named_parameters():
            require(
                trained.get(name, parameter) is parameter,
                f"the student gives {name} a new parameter in training, which no optimiser would "
                "train: write to its .data",
            )
        moving = [name for name, buffer in _unsaved(trial.body) if _differs(buffer, unsaved[name])]
        if moving:
            self.notes.append(
                f"buffer {moving[0]} changes in training and is not saved (persistent=False): "
                "a resumed or exported student begins without it"
            )

    def _batches(self, trial: Network, channels_last: bool) -> None:
        for size in self.sizes:
            views_BDHW = self._views(size, trial, channels_last)
            with self.precision():
                output = trial.body(trial.prepare(views_BDHW))
                logits_BC = logits_of(output, f"{trial.spec} in training", training=True)
            _backward(trial, logits_BC, size)
            if size == self.sizes[0] and not isinstance(output, Tensor):
                self._check_parts(trial, output)

    def _check_parts(self, trial: Network, output: object) -> None:
        """If training gives several outputs, check that the first reaches all required parameters.

        Every parameter that evaluation uses must get a gradient in training.
        """
        taught = _reached(trial)
        trial.zero_grad()
        with self.precision(), evaluating(trial):
            trial(self._views(self.sizes[0], trial)).float().square().mean().backward()
        left = [name for name in _reached(trial) if name not in taught]
        found = describe_output(output)
        if left:
            raise RequestError(
                f"the student {trial.spec} gives {found} in training; of its first part {left[0]} "
                "learns nothing, although it decides the logits in evaluation: return (B, C) "
                "logits, or a dictionary with the key 'logits', in training too"
            )
        self.notes.append(f"gives {found} in training: the main logits alone are trained")


def _backward(trial: Network, logits_BC: Tensor, size: int) -> None:
    expected = (size, len(trial.classes))
    require(
        tuple(logits_BC.shape) == expected,
        f"the student {trial.spec} gives {tuple(logits_BC.shape)} in training, expected logits of "
        f"shape {expected} as in evaluation",
    )
    require(
        logits_BC.requires_grad,
        f"no parameter of the student {trial.spec} can learn: its logits have no gradient; call "
        "requires_grad_() on what is to be trained, and leave out no_grad() and int8",
    )
    logits_BC.float().square().mean().backward()


class _Saved:
    """The state of a module as a checkpoint stores it."""

    def __init__(self, trial: nn.Module) -> None:
        tensors, self.extra = pack_state(trial.state_dict(), "the student")
        self.tensors = {name: tensor.clone() for name, tensor in tensors.items()}

    def put_back(self, trial: nn.Module) -> None:
        """Load the saved state into the module."""
        trial.load_state_dict(unpack_state(self.tensors, json.loads(json.dumps(self.extra))))

    def check_exchangeable(self, trial: nn.Module) -> None:
        """Check that the states before and after a step can replace each other."""
        after = _Saved(trial)
        try:
            self.put_back(trial)
            after.put_back(trial)
        except Exception as error:  # A user's load_state_dict or hooks can raise anything.
            raise RequestError(
                "a step of training gives the student a state that it cannot be resumed with: "
                f"{first_line(error)}; keep the shapes and names of parameters and buffers, or "
                "register them with persistent=False"
            ) from error


def _check_state(trial: nn.Module) -> None:
    """Check that a checkpoint can restore this network."""
    trained = {n: p for n, p in trial.named_parameters() if p.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    try:
        saved = _Saved(trial)
        with torch.no_grad():
            for parameter in trained.values():
                parameter.add_(1)
        saved.put_back(trial)
    except RequestError:
        raise
    except Exception as error:  # A user's state_dict, set_extra_state or hooks can raise.
        refused = "the student cannot be resumed: load_state_dict() refuses its own state"
        raise RequestError(f"{refused}: {first_line(error)}") from error
    for name, parameter in trained.items():
        require(
            torch.allclose(parameter, before[name], rtol=0, atol=0, equal_nan=True),
            f"the student's state_dict() leaves out or changes {name}, which is trained: a "
            "checkpoint would not bring it back",
        )


def _unsaved(body: nn.Module) -> list[tuple[str, Tensor]]:
    return [
        (f"{path}.{name}".lstrip("."), buffer)
        for path, part in body.named_modules()
        if not isinstance(part, torch.jit.ScriptModule)
        for name, buffer in part._buffers.items()
        if name in part._non_persistent_buffers_set and buffer is not None
    ]


def _differs(now: Tensor, before: Tensor) -> bool:
    # A buffer of another shape is a table for other image sizes; the network rebuilds it.
    return now.shape == before.shape and not torch.equal(now, before)


def _reached(module: nn.Module) -> list[str]:
    return [name for name, p in module.named_parameters() if p.grad is not None]
