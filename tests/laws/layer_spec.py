"""What a network's layers gave, watched independently, and everything that reads them beside it.

`check_reading` is asked of every network there is: ours, those of libraries that are installed, and
networks made to be difficult.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import collegium as cg
from collegium.losses import flow as flow_of
from collegium.methods.base import AbstractMethod
from collegium.models.features.discover import every_layer, survey
from collegium.models.features.hooks import FeatureHooks
from collegium.models.features.layer_names import LayerSpec, flow_between, tensor_in
from collegium.models.network import Network, Preprocess
from collegium.models.outputs import logits_of
from collegium.objectives.objective import Objective
from collegium.teachers.optimize import InferenceOptions, prepare
from collegium.teachers.teacher import Teacher
from collegium.types import Dims, MapShape, StudentOutputs, TeacherOutputs

LAYER_TERMS = {"at", "sp", "fsp", "hint", "distance", "angle"}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
MOST = 12
"""Layers that are looked at beside those that hints choose."""


def returned(network: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """What these layers returned in a forward, copied the moment they did."""
    copied: dict[str, Tensor] = {}
    handles = []
    modules = dict(network.named_modules())
    for layer in layers:

        def keep(module: nn.Module, inputs: object, output: object, layer: str = layer) -> None:
            feature = tensor_in(output)
            assert feature is not None
            copied[layer] = feature.clone()

        handles.append(modules[LayerSpec.of(layer).path].register_forward_hook(keep))
    with torch.no_grad():
        network(images.clone())
    for handle in handles:
        handle.remove()
    return {layer: LayerSpec.of(layer).map(copied[layer]) for layer in layers}


def layers_of(network: nn.Module, shape: MapShape) -> dict[str, MapShape]:
    """Those that hints choose, and some of all the others, in order."""
    chosen, every = survey(network, shape), every_layer(network, shape)
    names = list(every)
    some = {names[len(names) * place // MOST] for place in range(MOST)} if names else set()
    return {name: every[name] for name in names if name in chosen or name in some}


def check_reading(network: nn.Module, shape: MapShape, count: int = 4) -> None:
    """Every layer is read as it was returned, in every form, and copies agree in every method."""
    network.eval()
    images = torch.rand(count, *shape)
    maps = layers_of(network, shape)
    assert maps
    expected = returned(copy.deepcopy(network), images, list(maps))
    _check_hooks(network, images, expected)
    _check_teacher(network, images, expected)
    _check_twin(network, images, maps)


def _check_hooks(network: nn.Module, images: Tensor, expected: dict[str, Tensor]) -> None:
    forms = [form for layer in expected for form in (layer, f"{layer}@mean", f"{layer}@strength")]
    first, last = next(iter(expected)), list(expected)[-1]
    flow = flow_between(first, last)
    for grad in (False, True, True):  # copied, seen not to be written over, kept as it is
        hooks = FeatureHooks(network, [*forms, flow])
        with torch.set_grad_enabled(grad):
            hooks.try_step(network, images)
            for _ in range(2):
                network(images.clone())
                found = hooks.take()
                for layer, map_BDHW in expected.items():
                    if not grad:
                        assert torch.equal(found[layer], map_BDHW), layer
                    # With gradients attention has other kernels.
                    torch.testing.assert_close(found[layer].detach(), map_BDHW, **CLOSE)
                    mean = map_BDHW.mean(dim=(2, 3), keepdim=True)
                    torch.testing.assert_close(found[f"{layer}@mean"].detach(), mean, **CLOSE)
                    strength = map_BDHW.square().mean(dim=1, keepdim=True).sqrt()
                    strong = found[f"{layer}@strength"].detach()
                    torch.testing.assert_close(strong, strength, **CLOSE)
                expected_flow = _flow(expected[first], expected[last])
                # Sums over all positions: rounding adds up in wide layers.
                torch.testing.assert_close(
                    found[flow].detach(), expected_flow, rtol=1e-3, atol=1e-4
                )
        hooks.close()


def _flow(first_BDHW: Tensor, second_BDHW: Tensor) -> Tensor:
    return flow_of(first_BDHW, second_BDHW)[..., None]


def _check_teacher(network: nn.Module, images: Tensor, expected: dict[str, Tensor]) -> None:
    """Made fast, asked in blocks: the layers stay what they were, and so do the images."""
    plain = Preprocess((0.0,) * images.shape[1], (1.0,) * images.shape[1])
    if images.shape[1] not in (1, 3):
        return
    whole = Network(copy.deepcopy(network), plain, [str(place) for place in range(10)])
    asked = [form for layer in expected for form in (layer, f"{layer}@strength")]
    prepared = prepare(lambda: copy.deepcopy(whole), images, InferenceOptions(most=8), asked)
    teacher, before = Teacher(prepared, asked), images.clone()
    answer = teacher.answer(images)
    assert torch.equal(images, before)
    for layer, map_BDHW in expected.items():
        scale = map_BDHW.abs().max().item()
        torch.testing.assert_close(answer.maps[layer], map_BDHW, rtol=0, atol=2e-3 * scale)
        strength = map_BDHW.square().mean(dim=1, keepdim=True).sqrt()
        found = answer.maps[f"{layer}@strength"]
        torch.testing.assert_close(found, strength, rtol=0, atol=2e-3 * scale)


def methods_on(layers: Sequence[str], flat: bool) -> list[AbstractMethod]:
    """Every method that compares layers, each of these with itself."""
    pairs = tuple(f"{layer}=twin:{layer}" for layer in layers)
    found: list[AbstractMethod] = [
        cg.RKD(hint_pairs=pairs),
        cg.SP(hint_pairs=pairs),
        cg.FitNets(hint_pairs=pairs),
        cg.AMTML(hint_pairs=pairs, hint_norm="none"),
    ]
    if len(layers) > 1:
        found.append(cg.FSP(hint_pairs=pairs))
    return found if flat else [*found, cg.AT(hint_pairs=pairs)]


def make_identities(objective: Objective) -> None:
    """Regressors that change nothing."""
    with torch.no_grad():
        for module in objective.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.dirac_(module.weight)
                if module.bias is not None:
                    module.bias.zero_()


def _check_twin(network: nn.Module, images: Tensor, maps: dict[str, MapShape]) -> None:
    twin = copy.deepcopy(network)
    with torch.no_grad():
        logits_BC = logits_of(network(images.clone()), "it").float()
    classes = logits_BC.shape[1]
    dims = Dims(classes, ("twin",), maps, {"twin": maps})
    labels = torch.arange(len(images)) % classes
    flat = all(shape[1:] == (1, 1) for shape in maps.values())
    for method in methods_on(list(maps), flat):
        objective = method.build(dims)
        make_identities(objective)
        hooks = (
            FeatureHooks(network, objective.layers.student),
            FeatureHooks(twin, objective.layers.teachers["twin"]),
        )
        hooks[0].try_step(network, images)
        network(images.clone())
        with torch.no_grad():
            twin(images.clone())
        student, teacher = (t.take() for t in hooks)
        outputs = TeacherOutputs(logits_BC[:, None], {"twin": teacher})
        terms = objective(StudentOutputs(logits_BC, student), outputs, labels)
        for name, term_B in terms.items():
            if name.partition(".")[0] in LAYER_TERMS:
                scale = objective.terms[name].scale * _size(name, teacher)
                assert term_B.abs().max().item() <= 1e-5 * scale, (method.slug, name, term_B)
        for each in hooks:
            each.close()


def _size(name: str, teacher: dict[str, Tensor]) -> float:
    """What a term is measured by: plain squared errors by the squares of the maps."""
    if name.partition(".")[0] not in {"hint", "fsp"}:
        return 1.0 + len(teacher)
    return 1e-2 + max(map_.double().square().mean().item() for map_ in teacher.values()) ** 2


def idle_terms(distiller: cg.Distiller, images: Tensor, labels: Tensor) -> list[str]:
    """The reported terms that should move the student, and do not."""
    taught = distiller(images, labels)
    parameters = [p for p in distiller.student.parameters() if p.requires_grad]
    found = []
    for name, term_B in taught.terms.items():
        for parameter in parameters:
            parameter.grad = None
        if term_B.requires_grad:
            term_B.sum().backward(retain_graph=True)
        moved = any(p.grad is not None and p.grad.any() for p in parameters)
        if distiller.objective.terms[name].trains_student and not moved:
            found.append(name)
    return found
