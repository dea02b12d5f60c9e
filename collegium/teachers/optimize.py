"""Optimizes frozen networks for inference; their outputs must stay within a bound.

The optimizations are: folding BatchNorm into the preceding convolution (saves half of a small
ResNet's time on CPUs), the channels-last layout and, on request, low precision and compilation.
After each of them the outputs on real images are compared with those of the original network (for
compilation: of the network before it). If the outputs change by more than the bound, the
optimization is undone and a note gives the reason.
"""

import functools
import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from collegium.models.features.hooks import FeatureHooks
from collegium.models.features.layer_names import LayerSpec, source_layers, tensor_in
from collegium.models.features.trace import readable
from collegium.models.network import Network
from collegium.teachers.teacher import BLOCKS, OptimizedTeacher, Precision
from collegium.utils.memory import ran_out
from collegium.utils.text import first_line

SAMPLE = 128
"""Number of images on which each optimization is checked."""
EXACT = 1e-3
"""Largest allowed change of a logit where only the order of arithmetic changes, in standard
deviations of the logits; for features, in those of the feature."""
ROUNDED = 0.05
"""Largest allowed root mean square change of the logits in low precision, in standard deviations
of the logits."""
COMPARED = 4
"""Number of images on which features are compared; few, because features are large."""
AGREEMENT = 0.95
"""Smallest allowed fraction of images whose predicted class stays the same in low precision."""

LOGIT = "a logit"
"""Name of the logits beside those of layers, which are module paths; also in messages."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Step = Callable[[OptimizedTeacher], int]
"""A change of a network in place; returns how many modules it changed."""
Outputs = Mapping[str, Tensor]
"""Logits, and features by layer."""


@dataclass(frozen=True)
class InferenceOptions:
    """The optimizations to try on a teacher.

    Attributes:
        fold: fold each BatchNorm into the convolution before it.
        channels_last: use the layout that is fastest on CPUs and tensor cores.
        low: returns the context of low precision; None disables low precision.
        compile: number of views in a block for torch.compile; 0 disables compilation.
        most: largest number of views in one forward pass.
        shrunk: called with a message when memory ran out and blocks become smaller; None raises the
            error instead.
    """

    fold: bool = True
    channels_last: bool = True
    low: Precision | None = None
    compile: int = 0
    most: int = BLOCKS[-1]
    shrunk: Callable[[str], None] | None = None


def prepare(
    build: Callable[[], Network],
    images_BDHW: Float[Tensor, "B D H W"],
    inference: InferenceOptions,
    tapped: Collection[str] = (),
) -> OptimizedTeacher:
    """Optimize a network, one change after another.

    Args:
        build: builds the network on its device; called again when a change must be undone.
        images_BDHW: real views, pixels in 0..1; `SAMPLE` of them are enough.
        inference: the optimizations to try.
        tapped: layers whose features are read, so that they must not change either.
    """
    done = OptimizedTeacher(build(), blocks=(inference.most,), shrunk=inference.shrunk)
    before = _outputs(done, images_BDHW, tapped)
    steps: dict[str, Step] = {}
    if inference.fold:
        steps["folded"] = lambda kept: fold(kept.network, images_BDHW, tapped)
    if inference.channels_last:
        steps["channels-last"] = _lay_out
    for name, change in steps.items():
        if reason := _try(done, name, change, images_BDHW, before):
            done = replace(done, network=build(), layout=torch.contiguous_format)
            for kept in done.changes:
                steps[kept](done)
            done.notes.append(f"not {name}: {reason}")
    if inference.low is not None:
        _try_low(done, inference.low, images_BDHW, before[LOGIT])
    if inference.compile:
        _try_compiled(done, min(inference.compile, done.blocks[-1]), images_BDHW)
    if done.compiled is None:
        done.blocks = _same_bits(done, images_BDHW)
    started = time.perf_counter()
    done.ask(images_BDHW).cpu()  # .cpu() waits for an asynchronous device
    done.images_per_s = len(images_BDHW) / (time.perf_counter() - started)
    return done


def _try(
    done: OptimizedTeacher, name: str, change: Step, images_BDHW: Tensor, before: Outputs
) -> str:
    """Apply a change; the reason why it must be undone, or nothing."""
    try:
        if change(done) == 0:  # nothing to change
            return ""
        after = _outputs(done, images_BDHW, [layer for layer in before if layer != LOGIT])
    except Exception as problem:  # the changed network may raise any exception
        if ran_out(problem):
            raise
        return first_line(problem)
    for key, values in before.items():
        what = key if key == LOGIT else f"layer {key!r}"
        comparable = values.numel() > 1 and values.isfinite().all()
        if comparable and (reason := _excess(values, after[key], EXACT, what)):
            return reason
    done.changes.append(name)
    return ""


def _excess(before_BC: Tensor, after_BC: Tensor, bound: float, what: str = LOGIT) -> str:
    """By how much the outputs moved, if by more than a bound; else nothing."""
    distance = moved(before_BC, after_BC).amax().item()
    if distance <= bound:
        return ""
    return f"{what} moved by {distance:.2g} deviations, bound {bound:g}"


def _outputs(done: OptimizedTeacher, images_BDHW: Tensor, tapped: Collection[str]) -> Outputs:
    """The logits, and of a few images the features that are read, by layer."""
    logits_BC = done.ask(images_BDHW)
    if not tapped:
        return {LOGIT: logits_BC}
    block_BDHW = images_BDHW[:COMPARED].to(memory_format=done.layout, copy=True)
    whose = f"the teacher {done.network.spec}"
    with torch.no_grad(), FeatureHooks(done.network.body, tuple(tapped), whose) as hooks:
        done.network(block_BDHW)
        return {LOGIT: logits_BC, **hooks.take(len(block_BDHW))}


def _try_low(
    done: OptimizedTeacher, low: Precision, images_BDHW: Tensor, before_BC: Tensor
) -> None:
    done.precision = low
    try:
        after_BC = done.ask(images_BDHW)
        if torch.equal(after_BC, before_BC):  # torch does not compute it: autocast has no effect
            done.precision = nullcontext
            return
        distance = moved(before_BC, after_BC).square().mean().sqrt().item()
        same = (before_BC.argmax(1) == after_BC.argmax(1)).double().mean().item()
        if distance <= ROUNDED and same >= AGREEMENT:
            done.changes.append("low precision")
            return
        reason = (
            f"logits moved by {distance:.2g} deviations (bound {ROUNDED:g}), "
            f"{100 * same:.1f} % of classes stayed (bound {100 * AGREEMENT:g})"
        )
    except Exception as problem:  # an operation without low precision
        if ran_out(problem):
            raise
        reason = first_line(problem)
    done.precision = nullcontext
    done.notes.append(f"not in low precision: {reason}")


def _try_compiled(done: OptimizedTeacher, block: int, images_BDHW: Tensor) -> None:
    before_BC = done.ask(images_BDHW)
    bound = EXACT if done.precision is nullcontext else ROUNDED
    started = time.perf_counter()
    # Features are read by hooks that are added and removed: compiled code must check for them.
    torch._dynamo.config.skip_nnmodule_hook_guards = False
    torch._dynamo.config.recompile_limit = 64  # counted over all teachers and the student
    done.compiled, done.blocks = torch.compile(done.network, dynamic=False), (block,)
    try:
        reason = _excess(before_BC, done.ask(images_BDHW), bound)
    except Exception as problem:  # a compiler may raise any exception
        reason = first_line(problem)
    if not reason:
        done.changes.append(f"compiled in {time.perf_counter() - started:.0f} s")
        return
    done.compiled = None
    done.notes.append(f"not compiled: {reason}")


def _same_bits(done: OptimizedTeacher, images_BDHW: Tensor) -> tuple[int, ...]:
    """Block sizes whose outputs equal, bit for bit, those of the largest block.

    On devices other than CPUs all sizes are returned: equal bits are not guaranteed there.
    """
    most = done.blocks[-1]
    sizes = (*(size for size in BLOCKS if size < most), most)
    if images_BDHW.device.type != "cpu":
        return sizes
    parts = {size: replace(done, blocks=(size,)).ask(images_BDHW[:size]) for size in sizes}
    same = functools.partial(torch.allclose, rtol=0, atol=0, equal_nan=True)
    return tuple(size for size, part in parts.items() if same(part, parts[most][:size]))


def moved(before_BC: Tensor, after_BC: Tensor) -> Tensor:
    """Change of each logit, in standard deviations of all of them."""
    return (after_BC - before_BC).abs() / before_BC.std().clamp_min(1e-12)


def to_channels_last(network: Network) -> int:
    """Convert convolutions to channels-last and return their number."""
    count = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    if count:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return count


def _lay_out(done: OptimizedTeacher) -> int:
    count = to_channels_last(done.network)
    if count:
        done.layout = torch.channels_last
    return count


def fold(network: Network, images_BDHW: Tensor, tapped: Collection[str] = ()) -> int:
    """Fold every BatchNorm that follows a convolution into it; return the number of pairs.

    One forward pass finds the pairs: the input of the norm is the same tensor object that the
    convolution returned, both modules run once, nothing else is computed from that tensor, and no
    layer in `tapped` reads it.
    """
    names = {module: path for path, module in network.body.named_modules()}
    wholes_read = itertools.chain.from_iterable(map(source_layers, tapped))
    read = {LayerSpec.of(layer).path for layer in wholes_read}
    pairs = _pairs(network, images_BDHW[:2], [network.body.get_submodule(path) for path in read])
    for convolution, norm in pairs:
        network.body.set_submodule(names[convolution], fuse_conv_bn_eval(convolution, norm))
        network.body.set_submodule(names[norm], nn.Identity())
    return len(pairs)


def _pairs(
    network: Network, images_BDHW: Tensor, read: Collection[nn.Module]
) -> list[tuple[Any, Any]]:
    made: list[tuple[Any, nn.Module]] = []
    taken: list[tuple[Any, nn.Module]] = []
    kept: set[int] = set()  # storage addresses of outputs that are read, also of containers

    def watch(module: nn.Module, inputs: Any, output: Any) -> None:
        if module in read and (feature := tensor_in(output)) is not None:
            kept.add(feature.untyped_storage().data_ptr())
        # Exact types only: a subclass may compute more than its parent.
        # Modules with hooks are excluded: the older weight_norm computes the weight in a hook.
        if type(module) in _CONVOLUTIONS and _is_plain(module):
            made.append((output, module))
        elif type(module) in _NORMS and module.running_mean is not None and _is_plain(module):
            taken.append((inputs[0], module))

    # With gradients: the autograd graph records every use of a tensor.
    with ExitStack() as hooks, torch.enable_grad():
        for _, module in readable(network.body):
            hooks.enter_context(module.register_forward_hook(watch))
        logits_BC = network(images_BDHW.clone().requires_grad_())
    uses = _uses(logits_BC.grad_fn)
    calls = Counter(module for _, module in (*made, *taken))
    return [
        (convolution, norm)
        for output, convolution in made
        for given, norm in taken
        if given is output
        and calls[convolution] == calls[norm] == 1
        and uses[output.grad_fn] == 1
        and output.untyped_storage().data_ptr() not in kept
    ]


def _is_plain(module: nn.Module) -> bool:
    """Whether no hook can change what the module computes."""
    hooks = (module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return not any(hooks)


def _uses(end: Any) -> Counter[Any]:
    """For each operation that leads to `end`, the number of operations that use its result."""
    uses: Counter[Any] = Counter()
    waiting = [] if end is None else [end]
    seen = set(waiting)
    while waiting:
        before = [node for node, _ in waiting.pop().next_functions if node is not None]
        uses.update(before)
        waiting += [node for node in dict.fromkeys(before) if node not in seen]
        seen.update(before)
    return uses
