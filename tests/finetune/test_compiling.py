import copy
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._dynamo.utils import counters

from finetune import compile_costs
from finetune.checkpoint import Resume
from finetune.compile_costs import KeptCosts
from finetune.compiling import SMALL, Trial, decide
from finetune.device import Compute
from finetune.errors import CompileFailed
from finetune.events import CompileChosen
from finetune.freezing import Freezing, freezing_of
from finetune.spec.stages import FreezeNone

CPU = Compute(torch.device("cpu"), "fp32")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler: g++")


def stage(**fields):
    lr = {"schedule": {"name": "constant", "lr": 0.05}}
    return {"name": "all", "epochs": 3, "lr": lr, **fields}


def choices(events):
    return [(event.compiled, event.reason) for event in events if isinstance(event, CompileChosen)]


def weights_of(told, events):
    return [load_file(checkpoint.weights) for checkpoint in told.checkpoints(events)]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Breaking(nn.Module):
    """What torch.compile gives up on."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 2)

    def forward(self, images):
        if torch.compiler.is_compiling():
            return self.head(images)
        return self.head(self.norm(images).mean((2, 3)))


def trial(model, **fields):
    freezing = freezing_of(model, ("head",), FreezeNone(policy="none"), "eval")
    known = {"freezing": freezing, "backbone": "it", "batch": 4, "size": 8, "accumulate": 1}
    return Trial(model, **{"compute": CPU, **known, **fields})


@needs_compiler
def test_a_compiled_run_learns_the_same_keeps_its_names_and_goes_on_to_the_bit(job, run, told, tmp_path):
    """Batches of 10, 10 and 4: the last goes the plain way."""
    spec = job(stage(ema={"decay": 0.5}, augmentation="light"), batch_size=10)
    plain = run({**spec, "compile": "off"}, tmp_path / "plain", keep_all=True)
    counters.clear()
    compiled = run({**spec, "compile": "on"}, tmp_path / "compiled", keep_all=True)
    assert choices(plain) == [(False, "as the spec says")]
    ((chosen, reason),) = choices(compiled)
    assert chosen
    assert reason.startswith("as the spec says; it took ")
    assert counters["frames"] == {"total": 2, "ok": 2}  # the check and the network, once each
    losses = [[record.train["loss"] for record in told.records(events)] for events in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    first, *_, last = weights_of(told, compiled)
    assert first.keys() == weights_of(told, plain)[-1].keys()

    files = told.checkpoints(compiled)[0]
    again = run(
        {**spec, "compile": "on"},
        tmp_path / "again",
        resume=Resume(files.weights, files.state),
        keep_all=True,
    )
    assert choices(again)[0][0]
    assert same(weights_of(told, again)[-1], last)


@needs_compiler
def test_auto_measures_once_keeps_it_and_leaves_no_trace(job, run, told, tmp_path, monkeypatch):
    monkeypatch.setattr(compile_costs, "FEWEST_BATCHES", 1)
    monkeypatch.setattr(compile_costs, "WORTH_MEASURING", 0.0)
    spec = job(stage(), batch_size=10)
    ((_, reason),) = choices(run(spec, tmp_path / "first", cache_dir=tmp_path / "cache"))
    assert reason.startswith("9 batches of ")
    assert reason.endswith(" s of compiling")
    second = run(spec, tmp_path / "second", keep_all=True, cache_dir=tmp_path / "cache")
    ((chosen, reason),) = choices(second)
    assert not chosen
    assert reason.endswith(" s of compiling")
    assert "do not repay" in reason
    plain = run({**spec, "compile": "off"}, tmp_path / "plain", keep_all=True)
    assert same(weights_of(told, second)[-1], weights_of(told, plain)[-1])


def test_auto_does_not_even_look_at_a_short_stage(job, run, tmp_path):
    ((chosen, reason),) = choices(run(job(stage()), tmp_path / "run"))
    assert not chosen
    assert reason == "9 batches are too few to find out whether it pays (200 at least)"


def test_timing_a_network_leaves_it_as_it_was():
    model = Breaking().train()
    before = copy.deepcopy(model.state_dict())
    assert trial(model).seconds(model) > 0
    assert same(before, model.state_dict())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_network_that_cannot_be_compiled_fails_by_name_or_stays_plain():
    made = trial(Breaking().train())
    with pytest.raises(CompileFailed, match="cannot compile this network") as failed:
        decide("on", made, KeptCosts(None), 9)
    assert failed.value.param == "compile"
    choice, forward = decide("auto", made, KeptCosts(None), 9, began=True)
    assert (choice.compiled, forward) == (False, made.model)
    assert choice.reason == failed.value.message


def test_a_stage_goes_on_as_it_began_whatever_would_pay_now(tmp_path):
    made = trial(Breaking().train())
    choice, forward = decide("auto", made, KeptCosts(None), 10**9, began=False)
    assert (str(choice), forward) == ("off: as the stage began", made.model)


def test_a_run_that_began_compiled_and_cannot_go_on_so_says_that_its_bytes_may_differ(
    job, run, told, tmp_path, monkeypatch
):
    files = told.checkpoints(run(job(stage()), tmp_path / "began", keep_all=True))[0]
    state = torch.load(files.state, weights_only=True)
    assert state["compiled"] is False
    torch.save({**state, "compiled": True}, files.state)

    def fail(self):
        raise CompileFailed("no compiler any more", "compile")

    monkeypatch.setattr(Trial, "compile", fail)
    events = run(job(stage()), tmp_path / "on", resume=Resume(files.weights, files.state))
    assert choices(events) == [(False, "no compiler any more")]
    assert "the run began compiled and goes on without: its bytes may differ" in told.warnings(events)


def test_without_a_compiler_on_fails_before_training_and_says_what_to_install(tmp_path):
    program = (
        "import torch; from finetune.compiling import check; from finetune.device import Compute\n"
        "from finetune.errors import CompileFailed\n"
        "try: check(Compute(torch.device('cpu'), 'fp32'))\n"
        "except CompileFailed as error: print(error.code, error.param, error.message)"
    )
    environment = {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "USER": "anybody"}
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.startswith("compile_failed compile torch.compile does not work here"), found.stderr
    assert "needs a C++ compiler (g++) and the headers of Python" in found.stdout


@pytest.mark.parametrize(
    ("fields", "because"),
    [
        ({"gradient_checkpointing": True}, "gradient_checkpointing decides itself what runs when"),
        ({"freeze": {"policy": "backbone"}}, "it runs over features that are computed once"),
    ],
)
def test_what_cannot_be_compiled_is_told_in_the_plan_and_runs_plain(
    job, run, told, tmp_path, fields, because
):
    events = run(job(stage(epochs=1, **fields), compile="on"), tmp_path / "run")
    assert f"stage 'all': compile has no effect: {because}" in told.warnings(events)
    assert events[0].plan["stages"][0]["compile"] == "off"
    assert choices(events) == []


def test_the_costs_are_of_one_network_batch_precision_and_freezing():
    model = Breaking()
    keys = {
        trial(model, **fields).key()
        for fields in (
            {},
            {"batch": 5},
            {"size": 9},
            {"backbone": "other"},
            {"compute": Compute(CPU.device, "bf16")},
            {"freezing": Freezing(frozenset({"layer"}), frozenset({"layer"}), (), ())},
        )
    }
    assert len(keys) == 6


def test_small_batches_on_a_gpu_are_recorded_as_graphs():
    cuda = Compute(torch.device("cuda"), "bf16")
    side = int(SMALL**0.5)
    assert trial(Breaking(), compute=cuda, batch=1, size=side).graphs
    assert not trial(Breaking(), compute=cuda, batch=2, size=side).graphs
    assert not trial(Breaking(), compute=cuda, accumulate=2).graphs
    assert not trial(Breaking()).graphs
