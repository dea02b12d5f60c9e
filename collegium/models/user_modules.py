"""Modules given from Python: unwrapped, copied, and left as they were."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from collegium.errors import RequestError
from collegium.models.features.captured import random_states_kept
from collegium.models.features.hooks import FeatureHooks, close_hooks
from collegium.models.reported import reported
from collegium.models.unregistered import still_bound

M = TypeVar("M", bound=nn.Module)
PARALLEL = (DataParallel, DistributedDataParallel)
_ROUNDED = (torch.float16, torch.bfloat16)
_WRAPPERS = {"OptimizedModule": "_orig_mod", "_FabricModule": "_original_module"}
"""Classes by name, importing which would import the compiler and Fabric: what they wrap."""


def unwrapped(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The network inside wrappers of torch.compile, DataParallel, DDP, AveragedModel or Fabric.

    Returns:
        The network itself, and the names of the wrappers that were removed.
    """
    removed: list[str] = []
    while (inner := _inside(module)) is not None:
        removed.append(type(module).__name__)
        module = inner
    return module, tuple(removed)


def _inside(module: nn.Module) -> nn.Module | None:
    if isinstance(module, (*PARALLEL, AveragedModel)):
        inner: Any = module.module
    else:
        # Not by `getattr`, which a wrapper of the user's hands on to what it wraps.
        names = (_WRAPPERS.get(kind.__name__, "") for kind in type(module).__mro__)
        children = getattr(module, "_modules", {})
        inner = next((children[name] for name in names if name in children), None)
    return inner if isinstance(inner, nn.Module) else None


def uncompile(module: nn.Module) -> Callable[[], None]:
    """Remove compilation from a module and its parts, in place; gives what puts it back."""
    parts = [part for part in module.modules() if not isinstance(part, torch.jit.ScriptModule)]
    undo = contextlib.ExitStack()
    for part in parts:
        if (call := vars(part).get("_compiled_call_impl")) is not None:
            undo.callback(setattr, part, "_compiled_call_impl", call)
            part._compiled_call_impl = None
        for name, child in part._modules.items():
            if child is not None and name != "_orig_mod" and "_orig_mod" in child._modules:
                undo.callback(part._modules.__setitem__, name, child)
                part._modules[name] = unwrapped(child)[0]
    return undo.close


@contextlib.contextmanager
def uncompiled(module: nn.Module) -> Iterator[None]:
    """Run a module without compilation inside: compiled code does not know of later hooks."""
    with contextlib.ExitStack() as undo:
        undo.callback(uncompile(module))
        yield


def copied(module: M, whose: str) -> M:
    """A copy that shares no tensor with the module, without gradients or compilation.

    Tensors that a module keeps although they were computed (a weight under the older `weight_norm`,
    the features of the last forward) are copied without their graph, which `copy.deepcopy` alone
    refuses.

    Args:
        module: is left as it is.
        whose: the module is, in messages.

    Raises:
        RequestError: something in it cannot be copied.
    """
    memo = {id(tensor): tensor.detach().clone() for tensor in _computed(module)}
    failure = f"{whose} ({type(module).__name__}) cannot be copied"
    advice = "remove what copy.deepcopy cannot take, or give the class a __deepcopy__"
    # TorchScript copies its parameters by computing them.
    with reported(failure, advice), torch.no_grad():
        trial_copy: M = copy.deepcopy(module, memo)
    if reason := still_bound(trial_copy, module):
        raise RequestError(f"{failure}: {reason}")
    trainable = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    for name, parameter in trial_copy.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(trainable.get(name, False))
    uncompile(trial_copy)
    return trial_copy


def _computed(module: nn.Module) -> Iterator[Tensor]:
    """The tensors with a graph among what the module and its parts keep."""
    waiting: list[Any] = [vars(part) for part in module.modules()]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if not value.is_leaf:
                yield value
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value


def check_tensors(module: nn.Module, whose: str, trainable: bool, lazy: bool = False) -> None:
    """Refuse a module whose tensors hold no numbers, or a student of low precision.

    Args:
        module: given from Python.
        whose: the module is, in messages.
        trainable: it is a student.
        lazy: whether it may have lazy layers, whose shapes come with the first view.

    Raises:
        RequestError: naming the first tensor.
    """
    if not isinstance(module, nn.Module):
        raise RequestError(f"{whose} is {_what(module)}, expected an nn.Module")
    if trainable and isinstance(module, torch.fx.GraphModule) and "train" in vars(module):
        raise RequestError(
            f"{whose} is a graph of torch.export, which has no training mode: give the module that "
            "was exported"
        )
    for name, tensor in _named_tensors(module):
        if is_lazy(tensor):
            if not (trainable or lazy):
                raise RequestError(
                    f"{whose} was never run: its lazy {name} has no shape yet; run it once and "
                    "load its weights"
                )
        elif tensor.is_meta:
            raise RequestError(
                f"{whose} has {name} on the meta device, which holds no numbers: build it on the "
                "CPU, or use to_empty() and load its weights"
            )
        elif trainable and isinstance(tensor, nn.Parameter) and tensor.is_inference():
            raise RequestError(
                f"{whose} has {name} made under inference_mode, which cannot be trained: build it "
                "outside of it, or give a copy.deepcopy() made outside"
            )
        elif trainable and isinstance(tensor, nn.Parameter) and tensor.dtype in _ROUNDED:
            raise RequestError(
                f"{whose} has {name} in {str(tensor.dtype).removeprefix('torch.')}, in which small "
                "steps round to nothing: give student.float(), and --precision bf16 for speed"
            )


def _what(given: object) -> str:
    if isinstance(given, type):
        return f"the class {given.__name__} and not one of it"
    return f"a {type(given).__name__}"


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def freeze(module: M) -> M:
    """Evaluation mode and no gradients, for good; TorchScript has no `requires_grad_`."""
    module.eval()
    for _, parameter in module.named_parameters():  # `parameters` is what people override
        parameter.requires_grad_(False)
    return module


def blank(module: nn.Module, shape: tuple[int, ...], count: int = 1) -> Tensor:
    """Black images (B, D, H, W) of a module's device and type."""
    found = first_tensor(module)
    if found is None:
        return torch.zeros(count, *shape)
    return torch.zeros(count, *shape, device=found.device, dtype=found.dtype)


def first_tensor(module: nn.Module) -> Tensor | None:
    """The first parameter or buffer of floating point; None where there is none."""
    tensors = (tensor for _, tensor in _named_tensors(module))
    return next((t for t in tensors if t.is_floating_point() and not is_lazy(t)), None)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every part has its own mode again.

    And every parameter learns that did: people's own `train()` freezes some of them.
    """
    modes = _modes(module)
    learned = [(p, p.requires_grad) for _, p in module.named_parameters()]
    module.eval()
    try:
        yield
    finally:
        _set_modes(modes)
        for parameter, trainable in learned:
            if parameter.requires_grad != trainable:
                parameter.requires_grad_(trainable)


def _modes(module: nn.Module) -> dict[nn.Module, bool]:
    """Of every part; a frozen TorchScript module has none."""
    return {part: part.training for part in module.modules() if hasattr(part, "training")}


def _set_modes(modes: Mapping[nn.Module, bool]) -> None:
    for part, mode in modes.items():
        part.training = mode


@contextlib.contextmanager
def left_as_it_was(given: Any) -> Iterator[None]:
    """Leave a module as it was in everything but its trained values, also after an exception.

    Restored are training mode, `requires_grad`, `grad`, memory format, device and compilation of
    every part; hooks of hidden layers are removed. What is no module passes.
    """
    if not isinstance(given, nn.Module):
        yield
        return
    module = unwrapped(given)[0]
    modes = _modes(module)
    put_back = uncompile(module)
    restore = {name: _restorer(t) for name, t in _named_tensors(module) if not is_lazy(t)}
    try:
        yield
    finally:
        close_hooks(module)
        for name, tensor in _named_tensors(module):
            if name in restore:
                restore[name](tensor)
        put_back()
        _set_modes(modes)


def _restorer(tensor: Tensor) -> Callable[[Tensor], None]:
    """A function that restores how a tensor is now: all of it but its values."""
    requires_grad, device = tensor.requires_grad, tensor.device
    grad = tensor.grad if tensor.is_leaf else None
    strides = tensor.stride() if tensor.layout == torch.strided else None

    def restore(tensor: Tensor) -> None:
        if not tensor.is_leaf:
            return
        tensor.grad = None  # It has to lie where the values lie.
        if tensor.device != device:
            tensor.data = tensor.data.to(device)
        # An expanded tensor was one number in several places: training has made them several.
        if strides and 0 not in strides and tensor.stride() != strides and tensor.numel() > 1:
            laid = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=device)
            tensor.data = laid.copy_(tensor.data)
        if tensor.requires_grad != requires_grad:
            tensor.requires_grad_(requires_grad)
        tensor.grad = grad

    return restore


@contextlib.contextmanager
def spare(module: M, whose: str) -> Iterator[M]:
    """A module to try things on: a copy, else the module itself with its values put back.

    What the global generators of torch, NumPy and Python have drawn is put back too.
    """
    try:
        trial_copy = copied(module, whose)
    except RequestError:
        trial_copy = module
    kept = _kept(module) if trial_copy is module else []
    devices = {tensor.device for _, tensor in _named_tensors(module)}
    try:
        with random_states_kept(devices - {torch.device("meta")}), left_as_it_was(trial_copy):
            yield trial_copy
    finally:
        with torch.no_grad():
            for held, name, tensor, value in kept:
                held[name] = tensor
                tensor.copy_(value)


def _kept(module: nn.Module) -> list[tuple[dict[str, Any], str, Tensor, Tensor]]:
    """Where every tensor is held, the tensor and its values: a forward may put another there."""
    places = [
        ({} if isinstance(part, torch.jit.ScriptModule) else held, name, tensor)
        for part in module.modules()
        for held in (part._parameters, part._buffers)
        for name, tensor in held.items()
        if tensor is not None
    ]
    return [(held, name, tensor, tensor.detach().clone()) for held, name, tensor in places]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from this seed inside, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def rehearsed(hooks: FeatureHooks, network: nn.Module, images_BDHW: Tensor) -> FeatureHooks:
    """Layers of a network that know what is written over in it, as a copy of it has shown.

    A copy, since what a network keeps beside tensors (a count of its calls) cannot be put back.
    """
    if hooks.wants_rehearsal(network.training):
        try:
            trial_copy = copied(network, "the network")
        except RequestError:
            trial_copy = network
        hooks.try_step(trial_copy, images_BDHW)
    return hooks
