"""What is written when there is no room, or no room yet."""

import errno
import os

import pytest

from finetune import disk as disks
from finetune.checkpoint import bytes_in, save_state, write_atomically
from finetune.errors import DiskFull


class Small(disks.Disk):
    """A disk that says how much is free, and lets some writes of a file fail for want of room."""

    def __init__(self, free=10**12, failures=0, of=""):
        self.free, self.failures, self.of = free, failures, of

    def free_bytes(self, folder):
        assert folder.is_dir()
        return self.free

    def write(self, path, write):
        super().write(path, write)
        if self.failures and self.of in path.name:
            self.failures -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def on():
    """Puts another disk in place of the machine's."""
    before = disks.disk
    yield disks.use
    disks.use(before)


def test_what_is_larger_than_the_room_is_not_begun(on, tmp_path):
    on(Small(free=99))
    written = list[object]()
    with pytest.raises(DiskFull) as told:
        write_atomically(tmp_path / "new" / "x", written.append, 100)
    assert written == []
    assert told.value.needed == 100
    assert told.value.message == (
        "no room left for x: it needs 100 bytes and 99 were free; free some space where the artifacts are"
    )
    write_atomically(tmp_path / "new" / "x", lambda path: path.write_bytes(bytes(99)), 99)


def test_a_state_needs_what_its_tensors_take(on, tmp_path):
    import torch

    state = {"a": torch.zeros(1000), "b": [{"c": torch.zeros(10, dtype=torch.int64)}, None, 3, "text"]}
    assert bytes_in(state) == 4080
    on(Small(free=4079))
    with pytest.raises(DiskFull, match=r"it needs 4,080 bytes and 4,079 were free"):
        save_state(tmp_path / "x", state)
    on(Small(free=4080))
    save_state(tmp_path / "x", state)


STAGE = {"name": "all", "epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.05}}}


@pytest.mark.parametrize("of", [".safetensors", ".state.pt", "-step-"])
def test_the_cache_makes_room_for_a_checkpoint_and_the_run_goes_on(job, run, told, on, tmp_path, of):
    spec = job(STAGE, checkpoints={"every_steps": 2})
    whole = told.checkpoints(run(spec, tmp_path / "whole"))
    cached = tmp_path / "cache"
    on(Small(failures=1, of=of))
    found = told.checkpoints(run(spec, tmp_path / "run", cache_dir=cached))
    assert [one.sha256 for one in found] == [one.sha256 for one in whole]


def test_without_room_after_that_the_run_fails_and_what_it_has_stays(job, run, told, on, tmp_path, begin):
    on(Small(failures=2, of="00002.safetensors"))
    events = []
    with pytest.raises(DiskFull, match=r"no room left for epoch-00002\.safetensors: it needs [\d,]+ bytes"):
        events.extend(begin(job(STAGE), tmp_path / "run"))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "epoch-00001.safetensors",
        "epoch-00001.state.pt",
    ]


@pytest.fixture
def begin(data_dir, registry):
    """Starts a run, whose events come one by one."""
    import finetune

    def start(spec, folder):
        return finetune.train(spec, folder, data_dir=data_dir, registry=registry, device="cpu")

    return start
