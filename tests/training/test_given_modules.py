"""A module given from Python is left as it was, and what cannot work is refused before a step.

The table of `awkward.NETWORKS` against everything that is done with a module.
"""

import contextlib
import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import collegium as cg
from collegium.api import execute
from collegium.audit.examine import audit
from collegium.build import input_spec_of, make_student, make_teacher, splits_from
from collegium.config.options import Machine, Optimisation
from collegium.config.run import Run
from collegium.errors import CollegiumError, Interrupted, NumericsError, RequestError
from collegium.models.network import Network, Preprocess, weights_hash
from collegium.models.outputs import logits_of
from collegium.models.registry import build_network
from collegium.models.state import pack_state, unpack_state
from collegium.models.user_modules import copied, left_as_it_was, uncompile, unwrapped
from collegium.models.weights import fit_weights, network_bytes, read_weights
from collegium.runner.trial_step import try_step
from collegium.teachers.ensemble import TeacherEnsemble
from collegium.teachers.optimize import InferenceOptions
from tests.awkward import NETWORKS, SHAPE, Case, Extra, Plain, TwoNames, Viewed, mixed

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
COSTLY = {"compiled", "compiled parts"}  # importing the compiler takes seconds
SAMPLE = {"viewed", "extra state", "old norms"}
"""What tests that take longer do with; the slow ones take all."""

IMAGES = torch.rand(48, *SHAPE, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(48) % 10


def table(
    keep: Callable[[Case], bool] = lambda case: True, fast: set[str] = set(NETWORKS) - COSTLY
) -> Any:
    """The names of the networks; those that are not `fast` are for the slow tests."""
    names = [name for name, case in NETWORKS.items() if keep(case)]
    marks = {name: () if name in fast else pytest.mark.slow for name in names}
    return pytest.mark.parametrize("name", [pytest.param(n, marks=marks[n]) for n in names])


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """These networks are made of what torch itself warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*(quanti|TorchScript|torch.jit|[Ll]azy).*")
        yield


def build(name: str) -> nn.Module:
    torch.manual_seed(3)
    return NETWORKS[name].make()


def facts(module: nn.Module, values: bool) -> dict[str, Any]:
    """Everything a module is, but for the values where they may be trained."""
    found: dict[str, Any] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        found[path] = (
            type(part).__name__,
            getattr(part, "training", False),
            [list(getattr(part, kind, ())) for kind in HOOKS],
            vars(part).get("_compiled_call_impl") is None,
            sorted(getattr(part, "_non_persistent_buffers_set", ())),
        )
    for name, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        lazy = torch.nn.parameter.is_lazy(tensor)
        strides = tensor.stride() if tensor.layout == torch.strided and not lazy else None
        found[f"={name}"] = tensor.dtype, tensor.device, strides, tensor.requires_grad
        found[f"={name} grad"] = None if tensor.is_leaf and tensor.grad is None else id(tensor)
        if values and not lazy and not tensor.is_meta:
            found[f"={name} bytes"] = tensor.detach().to_dense().tolist()
    return found


def survives(module: nn.Module) -> list[bool]:
    """Whether it can be pickled and copied."""
    return [_does(lambda: pickle.loads(pickle.dumps(module))), _does(lambda: copy.deepcopy(module))]


def _does(work: Callable[[], Any]) -> bool:
    try:
        work()
    except Exception:
        return False
    return True


class Watched:
    """Compares a module before and after."""

    def __init__(self, module: nn.Module, trained: bool = False) -> None:
        self.module, self.trained = module, trained
        self.before, self.could = facts(module, not trained), survives(module)

    def check(self) -> None:
        now = facts(self.module, not self.trained)
        assert now == self.before
        assert survives(self.module) >= self.could


def input_spec() -> Any:
    return input_spec_of(splits_from((IMAGES, LABELS), None, None, 0.0, 0).train)


def refused(work: Callable[[], Any], words: str) -> None:
    with pytest.raises(RequestError) as told:
        work()
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def try_student(module: nn.Module) -> tuple[bool, list[str]]:
    network = make_student(module, input_spec(), 0)
    layout, notes = try_step(network, SHAPE, [16, 6], contextlib.nullcontext, Machine())
    return layout, [*network.origin.notes, *notes]


@table()
def test_a_step_is_tried_before_anything_else_and_leaves_no_trace(name: str) -> None:
    case, module = NETWORKS[name], build(name)
    watched = Watched(module)
    states = torch.get_rng_state(), np.random.get_state()[1]
    if case.student:
        with left_as_it_was(module):
            refused(lambda: try_student(module), case.student)
    else:
        with left_as_it_was(module):
            layout, notes = try_student(module)
        assert case.note in "; ".join(notes)
        assert layout == ("not channels-last" not in case.note)
        assert bool(notes) == bool(case.note), "no note without a reason"
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    if name != "lazy":  # its layers get their shapes
        watched.check()


def ensemble(module: nn.Module) -> TeacherEnsemble:
    return TeacherEnsemble(
        {"a": lambda: make_teacher("a", module, input_spec())},
        {"a": "given"},
        IMAGES[:32],
        InferenceOptions(most=32),
    )


@table()
def test_a_teacher_is_copied_and_answers_or_is_refused(name: str) -> None:
    case, module = NETWORKS[name], build(name)
    watched = Watched(module)
    if case.teacher:
        refused(lambda: ensemble(module), case.teacher)
    else:
        teachers = ensemble(module)
        assert bool(teachers.infos["a"].maps) == case.layers
        _check_answers(name, module, teachers)
    watched.check()


def _check_answers(name: str, module: nn.Module, teachers: TeacherEnsemble) -> None:
    """Those of the module itself."""
    info = teachers.infos["a"]
    with teachers.loaded("a") as teacher:
        found = teacher.answer(IMAGES[:8]).logits_BC
    inner = copied(unwrapped(module)[0], "it")
    inner.eval()
    kinds = [p.dtype for _, p in inner.named_parameters() if p.is_floating_point()]
    kinds = kinds or [torch.float32]
    pixels = (IMAGES[:8] - torch.tensor(info.mean)[:, None, None]) / info.std[0]
    expected = logits_of(inner(pixels.to(kinds[0])), name).float()
    # int8 steps are found by batch.
    rounded = name == "quantised" or kinds[0] in (torch.bfloat16, torch.float16)
    tolerance = 0.1 if rounded else 1e-3
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


OWN = {"freezes in evaluation", "own methods", "features first", "dataclass"}


@table(lambda case: not case.student, fast={*SAMPLE, *OWN, "parallel"})
def test_a_distiller_survives_what_modules_do(name: str) -> None:
    case, module = NETWORKS[name], build(name)
    if name == "parallel":
        words = "wrap the distiller"
        refused(lambda: cg.Distiller(module, {"a": Plain()}, cg.AMTML(), SHAPE), words)
        return
    if name == "lazy":
        module(IMAGES[:2])
    watched = Watched(unwrapped(module)[0], trained=True)
    method = cg.AMTML() if case.layers else cg.AvgMKD()
    distiller = cg.Distiller(module, {"a": Plain()}, method, SHAPE)
    watched.check()
    loss = distiller(IMAGES[:6], LABELS[:6]).loss
    loss.backward()
    distiller.zero_grad()
    if case.copies:
        averaged = AveragedModel(distiller)
        for other in (copy.deepcopy(distiller), pickle.loads(pickle.dumps(distiller)), averaged):
            assert other(IMAGES[:6], LABELS[:6]).loss.isfinite()
    if name not in COSTLY:
        watched.before = {k: v for k, v in watched.before.items() if "grad" not in k}
        now = facts(watched.module, values=False)
        assert {k: v for k, v in now.items() if "grad" not in k} == watched.before


def distill(student: nn.Module, teacher: nn.Module, out: Path, **options: Any) -> cg.Record:
    rest = {"epochs": 1, "batch_size": 16, "quiet": True, "method": cg.Gated(), **options}
    return cg.distill(
        student=student, teachers={"a": teacher}, train=(IMAGES, LABELS), out=out, **rest
    )


@table(fast=SAMPLE)
def test_a_run_leaves_student_and_teacher_as_they_were(name: str, tmp_path: Path) -> None:
    case = NETWORKS[name]
    student = build(name) if not case.student else Plain()
    teacher = build(name) if not case.teacher else Plain()
    watched = [Watched(student, trained=True), Watched(teacher)]
    method = cg.Gated() if case.layers else cg.AvgMKD()
    record = distill(student, teacher, tmp_path / "run", method=method)
    for one in watched[name == "lazy" :]:
        one.check()
    if case.copies:
        data = splits_from((IMAGES, LABELS), None, None, 0.1, 0)
        found = cg.export_student(record.folder, "safetensors", student=student, data=data)
        assert found["rows"][1]["agreement"] == 1.0


CALLERS: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "float64": lambda: default_type(torch.float64),
}


@contextlib.contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def test_what_the_caller_has_set_for_torch_changes_nothing(tmp_path: Path) -> None:
    """Runs, evaluations and distillers are what they are without; it is still set afterwards."""
    found = {}
    for name, context in {"": contextlib.nullcontext, **CALLERS}.items():
        torch.manual_seed(0)
        student, teacher, own = Plain(), Plain(), Plain()
        with context():
            record = distill(student, teacher, tmp_path / f"run {name}", method=cg.AMTML())
            distiller = cg.Distiller(own, {"a": teacher}, cg.AMTML(), SHAPE)
            if name != "default device":
                assert torch.is_inference(torch.ones(1)) == (name == "inference_mode")
                assert (torch.ones(1).dtype == torch.float64) == (name == "float64")
        loss = distiller(IMAGES[:6], LABELS[:6]).loss
        loss.backward()
        found[name] = (record.folder / "student.safetensors").read_bytes(), loss.item()
    for name in CALLERS:
        assert found[name] == found[""], name


def test_parts_that_torch_does_not_know_are_told() -> None:
    class Hidden(Plain):
        def __init__(self, part: nn.Module) -> None:
            super().__init__()
            self.parts = {"a": part, "known": self.conv}

    doubts = make_student(Hidden(nn.BatchNorm2d(4)), input_spec(), 0).origin.doubts
    assert "holds a BatchNorm2d in parts that is not registered" in " ".join(doubts)
    frozen = nn.BatchNorm2d(4).eval().requires_grad_(False)
    assert not make_student(Hidden(frozen), input_spec(), 0).origin.doubts


def test_a_wrapper_that_hands_attributes_on_is_no_wrapper_of_torch() -> None:
    class OptimizedModule(nn.Module):  # as torch.compile's
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self._orig_mod = net

    class Halved(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def __getattr__(self, name: str) -> Any:
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(self.net, name)

    inner = Plain()
    compiled = OptimizedModule(inner)
    assert unwrapped(compiled)[0] is inner
    assert isinstance(unwrapped(Halved(compiled))[0], Halved)


@pytest.mark.slow
@table(lambda case: not case.student)
def test_measuring_leaves_modules_as_they_were(name: str) -> None:
    case, module = NETWORKS[name], build(name)
    data = splits_from((IMAGES, LABELS), None, None, 0.5, 0)
    watched = Watched(module)
    measures: list[Callable[[], Any]] = [
        lambda: cg.evaluate(module, data),
        lambda: audit({"a": module, "b": Plain()}, data, probe=4, quiet=True),
        lambda: audit({"b": Plain()}, data, student=module, probe=4, quiet=True),
    ]
    for work in measures:
        if case.teacher and work is not measures[-1]:
            refused(work, case.teacher)
        else:
            work()
        if name != "lazy":
            watched.check()


class Breaks(Viewed):
    """Raises in training, after some calls that worked."""

    def __init__(self, error: BaseException | None, after: int = 0) -> None:
        super().__init__()
        self.error, self.left = error, after

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if self.training and torch.is_grad_enabled() and len(x) == 16:
            self.left -= 1
            if self.left < 0 and self.error is not None:
                raise self.error
        return logits


@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyboardInterrupt(), Interrupted), (ValueError("no"), ValueError), (None, NumericsError)],
)
def test_an_exception_leaves_them_too(error: Any, told: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    student, teacher = Breaks(error, after=1), Plain()
    student.conv.requires_grad_(False)
    watched = [Watched(student, trained=True), Watched(teacher)]
    with pytest.raises(told):
        distill(student, teacher, tmp_path / "run", lr=1e30 if error is None else None)
    for one in watched:
        one.check()


def test_hooks_do_not_gather_and_afterwards_everything_works(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    for turn in range(2):
        distill(module, Plain(), tmp_path / str(turn), method=cg.AMTML())
    assert not any(part._forward_hooks for part in module.modules())
    torch.save(module, tmp_path / "module.pt")
    script = torch.jit.script(module)
    torch.testing.assert_close(script(IMAGES), module(IMAGES))


def test_a_run_that_was_stopped_goes_on_with_extra_state_and_shared_modules(tmp_path: Path) -> None:
    class Student(TwoNames, Extra):
        """Both."""

        def __init__(self, stops: bool) -> None:
            super().__init__()
            self.steps, self.stops = 0, stops

        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            self.steps += self.training and len(x) == 16
            if self.stops and self.steps == 5:
                raise KeyboardInterrupt
            return logits

    data = splits_from((IMAGES, LABELS), None, None, 0.1, 0)

    def run(folder: str, stops: bool, resume: bool = False) -> None:
        torch.manual_seed(0)
        parts = {"a": Plain()}
        asked = Run(
            data,
            Student(stops),
            parts,
            cg.Gated(),
            Optimisation(epochs=3, batch_size=16),
            Machine(checkpoint_every="1"),
        )
        execute(asked, tmp_path / folder, quiet=True, resume=resume)

    run("whole", stops=False)
    with pytest.raises(Interrupted):
        run("parts", stops=True)
    run("parts", stops=False, resume=True)
    students = [tmp_path / name / "student.safetensors" for name in ("whole", "parts")]
    whole, parts = (path.read_bytes() for path in students)
    assert whole == parts
    assert b"extra_state" in whole


@table(lambda case: not case.student)
def test_state_comes_back_from_plain_tensors(name: str) -> None:
    module = unwrapped(build(name))[0]
    if name == "lazy":
        module(IMAGES[:2])
    tensors, extra = pack_state(module.state_dict(), "it")
    places = [t.untyped_storage().data_ptr() for t in tensors.values() if t.numel()]
    assert len(set(places)) == len(places)
    back = unpack_state(tensors, extra)
    assert back.keys() == module.state_dict().keys()
    module.load_state_dict(back)


@table(lambda case: not case.teacher)
def test_a_hash_is_of_the_weights(name: str) -> None:
    """The same for a copy, another for other weights; whatever holds them."""
    module = unwrapped(build(name))[0]
    uncompile(module)
    if name == "locked":
        return
    torch.manual_seed(4)
    other = unwrapped(NETWORKS[name].make())[0]
    if name == "lazy":
        return
    assert weights_hash(copied(module, "it")) == weights_hash(module)
    assert weights_hash(other) != weights_hash(module)


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_of_traits_is_trained_or_refused(seed: int) -> None:
    module, traits = mixed(seed)
    watched = Watched(module)
    with left_as_it_was(module):
        layout, _ = try_student(module)
    assert layout == ("viewed" not in traits)
    watched.check()
    teachers = ensemble(module)
    assert teachers.unchanged("a")
    watched.check()


def test_a_teacher_that_changes_when_asked_is_refused_before_a_step() -> None:
    class Counting(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.seen += len(x)
            return super().forward(x)

    refused(lambda: ensemble(Counting()), "teacher a changes its body.seen in every forward pass")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _with_state(lambda: object()), "its state _extra_state holds a object"),
        (lambda: _with_state(lambda: {"a": 1}), "load_state_dict() refuses its own state"),
        (lambda: _Partial(), "leaves out or changes conv.weight"),
        (lambda: _Loss(), "gives () in training, expected logits of shape (6, 10)"),
    ],
)
def test_what_would_lose_work_is_refused_before_a_step(make: Any, words: str) -> None:
    refused(lambda: try_student(make()), words)


def _with_state(state: Callable[[], Any]) -> nn.Module:
    class Stateful(Plain):
        def get_extra_state(self) -> Any:
            return state()

    return Stateful()


class _Partial(Plain):
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        whole = super().state_dict(*args, **kwargs)
        return {name: value for name, value in whole.items() if "head" in name}

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return super().load_state_dict(*args, **{**kwargs, "strict": False})


class _Loss(Plain):
    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits.logsumexp(dim=1).mean() if self.training else logits


def test_buffers_that_are_learned_and_not_saved_are_told() -> None:
    class Unsaved(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(1), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.mean += x.mean()
            return super().forward(x)

    _, notes = try_student(Unsaved())
    assert notes == [
        "buffer mean changes in training and is not saved (persistent=False): a resumed or "
        "exported student begins without it"
    ]


@pytest.mark.parametrize(
    ("student", "method", "words"),
    [
        (Plain, cg.Gated(), "BatchNorm (1) takes its statistics within parts of 4 examples"),
        (nn.Identity, cg.RKD(), "compare examples within parts of 4"),
        (nn.Identity, cg.AEKD(), "weights are found once for all examples"),
        (nn.Identity, cg.AvgMKD(), ""),
    ],
)
def test_parts_of_a_batch_that_make_another_step_are_told(
    student: Any, method: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    bare = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))
    net = Plain() if student is Plain else bare
    distill(net, Plain(), tmp_path / "run", method=method, micro_batches=4, quiet=False)
    said = capsys.readouterr().err
    assert ("not the same step as with whole batches" in said) == bool(words)
    assert words in " ".join(said.split())


def test_layers_of_a_teacher_without_any_are_refused_in_one_line(tmp_path: Path) -> None:
    unreadable = "has none that can be read"
    for method, words in ((cg.FitNets(), unreadable), (cg.AMTML(), "hint_weight=0")):
        with pytest.raises(CollegiumError, match=words) as told:
            distill(Plain(), build("scripted"), tmp_path / "run", method=method)
        assert "\n" not in str(told.value)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrapper", ["nn.DataParallel", "torch.optim.swa_utils.AveragedModel"])
def test_a_file_may_give_a_wrapped_network(wrapper: str, tmp_path: Path) -> None:
    """Its tensors have the names of the network itself, so weights of either kind fit."""
    text = (
        "import torch\nfrom torch import nn\n\n\ndef build(classes):\n"
        f"    return {wrapper}(nn.Sequential(nn.Flatten(), nn.Linear(64, classes)))\n"
    )
    (tmp_path / "net.py").write_text(text)
    network = build_network(f"{tmp_path}/net.py:build", input_spec(), trainable=True)
    assert set(network.body.state_dict()) == {"1.weight", "1.bias"}
    state = {f"module.1.{n}": p * 2 for n, p in network.body[1].named_parameters()}
    torch.save(state, tmp_path / "net.pt")
    trained = build_network(f"{tmp_path}/net.py:build@{tmp_path}/net.pt", input_spec())
    assert torch.equal(trained.body[1].weight, state["module.1.weight"])


def test_lazy_layers_of_a_file_are_drawn_from_the_seed(tmp_path: Path) -> None:
    text = (
        "from torch import nn\n\n\ndef build(classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))\n"
    )
    (tmp_path / "net.py").write_text(text)
    spec = f"{tmp_path}/net.py:build"
    first, same, other = (
        build_network(spec, input_spec(), seed, trainable=True) for seed in (1, 1, 2)
    )
    assert weights_hash(first) == weights_hash(same) != weights_hash(other)
    torch.save(first.body.state_dict(), tmp_path / "net.pt")
    refused(
        lambda: build_network(f"{spec}@{tmp_path}/net.pt", input_spec()), "into the lazy 1.weight"
    )


def test_weights_files_bring_extra_state_back(tmp_path: Path) -> None:
    """As torch writes them, and as we do; what a file leaves out is told."""
    net = Extra()
    net.scale, net.seen = 3.0, 7
    torch.save(
        {"state_dict": {f"module.{n}": v for n, v in net.state_dict().items()}}, tmp_path / "a.pt"
    )
    wrapped = Network(net, Preprocess((0.5,), (0.5,)), "0123456789", "net")
    (tmp_path / "b.safetensors").write_bytes(network_bytes(wrapped))
    for file in ("a.pt", "b.safetensors"):
        fresh = Extra()
        fit_weights(fresh, read_weights(tmp_path / file))
        assert (fresh.scale, fresh.seen) == (3.0, 7)
    torch.save(
        {n: v for n, v in net.state_dict().items() if isinstance(v, Tensor)}, tmp_path / "c.pt"
    )
    report = fit_weights(Extra(), read_weights(tmp_path / "c.pt"))
    assert report.match is not None
    assert "_extra_state" in report.match.left_out


def test_weights_files_may_leave_out_the_second_name_of_a_tensor(tmp_path: Path) -> None:
    net = TwoNames()
    state = {n: v for n, v in net.state_dict().items() if not n.startswith("classifier")}
    torch.save(state, tmp_path / "tied.pt")
    fresh = TwoNames()
    fit_weights(fresh, read_weights(tmp_path / "tied.pt"))
    assert torch.equal(fresh.classifier.weight, net.head.weight)


NO_BACKEND = """
import sys
import torch

compiles = torch.compile


def fails(graph, inputs):
    raise RuntimeError("no such operation")


torch.compile = lambda net, **options: compiles(net, backend=fails)
from collegium.cli.main import main

sys.exit(main())
"""


@pytest.mark.slow
def test_a_student_that_cannot_be_compiled_is_trained_without(tmp_path: Path) -> None:
    # In a process of its own: the shape checks of the tests break the compiler.
    words = f"train --data digits --model small:cnn --epochs 1 --compile on --out {tmp_path}/run"
    command = [sys.executable, "-c", NO_BACKEND, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "warning: student not compiled: backend='fails' raised: RuntimeError: no such" in said
