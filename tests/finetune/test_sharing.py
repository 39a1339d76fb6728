"""Whole runs that share a cache: the result is the same to the byte, whatever is in it."""

import json
import random
import signal
import subprocess
import sys

import pytest
from PIL import Image

from finetune.cache import Cache
from finetune.checkpoint import Resume
from finetune.events import FeaturesReady, RunStarted


@pytest.fixture(scope="module")
def spec(job):
    return job()


@pytest.fixture
def expected(run, told, spec, tmp_path):
    """The checksums of a run without a cache."""
    return shas(told, run(spec, tmp_path / "plain"))


@pytest.fixture
def warm(run, spec, tmp_path):
    """A cache that a run has filled."""
    run(spec, tmp_path / "before", cache_dir=tmp_path / "cache", checks_dir=tmp_path / "checks")
    return tmp_path / "cache"


def shas(told, events):
    return [checkpoint.sha256 for checkpoint in told.checkpoints(events)]


def counts(events):
    started = next(event for event in events if isinstance(event, RunStarted))
    ready = [(event.computed, event.cached) for event in events if isinstance(event, FeaturesReady)]
    return (started.images_decoded, started.images_known), ready


def entries(cache):
    return [path for path in cache.rglob("*") if path.is_file() and path.name != ".total"]


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def test_a_cold_cache_and_a_warm_one_give_what_none_gives(run, told, spec, expected, tmp_path):
    for turn, workers in (("cold", 0), ("warm", 0), ("with workers", 2)):
        events = run(spec, tmp_path / turn, cache_dir=tmp_path / "cache", data_workers=workers)
        assert shas(told, events) == expected


def test_the_second_run_decodes_nothing_and_computes_no_features(run, spec, tmp_path, monkeypatch):
    decoded, opened = [], Image.open

    def count(source, formats):
        decoded.append(source)
        return opened(source, formats=formats)

    monkeypatch.setattr("finetune.data.opening.Image.open", count)
    kept = {"cache_dir": tmp_path / "cache", "checks_dir": tmp_path / "checks"}
    first = run(spec, tmp_path / "first", **kept)
    assert counts(first) == ((33, 0), [(33, 0)])
    assert len(decoded) == 33
    second = run(spec, tmp_path / "second", **kept)
    assert counts(second) == ((0, 33), [(0, 33)])
    assert len(decoded) == 33


def test_without_a_folder_or_a_budget_nothing_is_kept(run, spec, tmp_path):
    for options in ({}, {"cache_dir": tmp_path / "cache", "cache_bytes": 0}):
        for turn in (1, 2):
            events = run(spec, tmp_path / f"{turn}", **options)
            assert counts(events) == ((33, 0), [(33, 0)])
    assert not (tmp_path / "cache").exists()


def test_a_run_with_another_head_rate_takes_the_features_and_one_with_another_seed_does_not(
    job, run, warm, tmp_path
):
    head = {
        "epochs": 1,
        "freeze": {"policy": "backbone"},
        "lr": {"schedule": {"name": "constant", "lr": 0.3}},
    }
    kept = {"cache_dir": warm, "checks_dir": tmp_path / "checks"}
    other_rate = run(job(head), tmp_path / "rate", **kept)
    assert counts(other_rate) == ((0, 33), [(0, 33)])
    other_weights = run(job(head, seed=1), tmp_path / "seed", **kept)
    assert counts(other_weights) == ((0, 33), [(33, 0)])


def test_each_stage_counts_its_own_features(job, run, tmp_path):
    head = {
        "epochs": 1,
        "freeze": {"policy": "backbone"},
        "lr": {"schedule": {"name": "constant", "lr": 0.3}},
    }
    events = run(job(head, head), tmp_path / "run", cache_dir=tmp_path / "cache")
    assert counts(events)[1] == [(33, 0), (0, 33)]


@pytest.mark.parametrize("budget", [500, 5_000, 20_000])
def test_a_full_cache_gives_what_none_gives(run, told, spec, expected, tmp_path, budget):
    cache = Cache(tmp_path / "cache", budget)
    for number in range(10):  # of other jobs, in use
        cache.put("images", str(number), [memoryview(bytes(budget // 11))])
    for turn in (1, 2):
        events = run(spec, tmp_path / f"{turn}", cache_dir=cache.root, cache_bytes=budget)
        assert shas(told, events) == expected
        assert sum(path.stat().st_size for path in entries(cache.root)) <= budget


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_damaged_cache_gives_what_none_gives(run, told, spec, expected, warm, tmp_path, place):
    for path in entries(warm):
        flip(path, place)
    events = run(spec, tmp_path / "damaged", cache_dir=warm)
    assert shas(told, events) == expected
    assert counts(events)[1] == [(33, 0)]
    assert counts(run(spec, tmp_path / "mended", cache_dir=warm))[1] == [(0, 33)]


def test_a_cache_with_holes_gives_what_none_gives(run, told, spec, expected, warm, tmp_path):
    for path in entries(warm)[::2]:
        path.unlink()
    assert shas(told, run(spec, tmp_path / "run", cache_dir=warm)) == expected


def test_a_cache_that_is_emptied_while_a_run_goes_on_changes_nothing(
    job, data_dir, registry, told, spec, expected, warm, tmp_path
):
    from finetune import train

    events = []
    options = {"data_dir": data_dir, "registry": registry, "device": "cpu", "cache_dir": warm}
    for event in train(spec, tmp_path / "run", **options):
        events.append(event)
        for path in random.sample(entries(warm), min(5, len(entries(warm)))):
            path.unlink()
    assert shas(told, events) == expected


def test_a_folder_that_cannot_be_written_changes_nothing(run, told, spec, expected, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert shas(told, run(spec, tmp_path / "run", cache_dir=tmp_path / "file")) == expected


def test_a_run_that_goes_on_from_a_checkpoint_takes_its_features_from_the_cache(
    run, told, spec, expected, warm, tmp_path
):
    first = told.checkpoints(run(spec, tmp_path / "run", cache_dir=warm, keep_all=True))[0]
    events = run(spec, tmp_path / "rest", cache_dir=warm, resume=Resume(first.weights, first.state))
    assert counts(events)[1] == [(0, 33)]
    assert shas(told, events) == expected[1:]


HEAD = {"epochs": 1, "freeze": {"policy": "backbone"}, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}
EVERYTHING = {
    "epochs": 1,
    "lr": {"schedule": {"name": "constant", "lr": 0.01}},
    "augmentation": "standard",
}
SHUFFLENET = {
    "dataset": {"path": "hues"},
    "backbone": {"name": "shufflenet_v2_x0_5", "weights": None},
    "stages": [HEAD, EVERYTHING],
    "image_size": 32,
    "batch_size": 8,
    "precision": "fp32",
}
TRAIN = """
import json, os, signal, sys
from pathlib import Path
import torch
import finetune
from finetune.events import EpochEnded

data, folder, cache, kill_at, spec = *map(Path, sys.argv[1:4]), int(sys.argv[4]), json.loads(sys.argv[5])
checks = cache.with_name("checks")
torch.set_num_threads(1)
replace, turns = Path.replace, [0]

def killed(self, target):
    turns[0] += cache in self.parents
    if turns[0] == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = killed
for event in finetune.train(spec, folder, data_dir=data, device="cpu", cache_dir=cache, checks_dir=checks):
    if isinstance(event, EpochEnded):
        print(event.checkpoint.sha256)
"""


def start(data_dir, tmp_path, name, kill_at=-1):
    """A process that trains with the cache, and is killed before it moves an entry to its place."""
    arguments = [data_dir, tmp_path / name, tmp_path / "cache", kill_at, json.dumps(SHUFFLENET)]
    command = [sys.executable, "-c", TRAIN, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(process):
    out, _ = process.communicate(timeout=120)
    return process.returncode, out.split()


def test_processes_at_once_after_a_kill_in_the_middle_give_what_none_gives(run, told, data_dir, tmp_path):
    expected = shas(told, run(SHUFFLENET, tmp_path / "plain"))
    assert said(start(data_dir, tmp_path, "killed", kill_at=20))[0] == -signal.SIGKILL
    left = entries(tmp_path / "cache")
    assert [path for path in left if path.name.startswith(".")], "it was killed before a rename"
    both = [start(data_dir, tmp_path, name) for name in ("one", "other")]
    assert [said(process) for process in both] == [(0, expected), (0, expected)]
    kept = {"cache_dir": tmp_path / "cache", "checks_dir": tmp_path / "checks"}
    again = run(SHUFFLENET, tmp_path / "again", **kept)
    assert shas(told, again) == expected
    assert counts(again) == ((0, 33), [(0, 33)])
