import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from finetune.checkpoint import load_state, load_weights, save_state, save_weights, write_atomically
from finetune.errors import DiskFull, WeightsIncompatible

needs_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def test_a_file_appears_whole_with_its_hash_and_size(tmp_path):
    digest, size = write_atomically(tmp_path / "new" / "x", lambda path: path.write_bytes(b"abc"))
    assert (digest, size) == (hashlib.sha256(b"abc").hexdigest(), 3)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x"]


@pytest.mark.promise("What is written together is there as a whole or not at all")
def test_until_it_is_whole_the_old_file_stands(tmp_path):
    (tmp_path / "x").write_bytes(b"old")

    def write(path):
        path.write_bytes(b"half of the n")
        assert (tmp_path / "x").read_bytes() == b"old"
        raise KeyError("something else")

    with pytest.raises(KeyError):
        write_atomically(tmp_path / "x", write)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_nothing_is_left_behind(tmp_path, code):
    def write(path):
        path.write_bytes(b"half")
        raise OSError(code, os.strerror(code))

    with pytest.raises(DiskFull, match="no room left for x: free some space"):
        write_atomically(tmp_path / "x", write)
    assert list(tmp_path.iterdir()) == []


@needs_full_device
def test_a_device_that_is_full_is_seen_through_torchs_and_safetensors_own_errors(tmp_path):
    for name, save in {
        "x.state.pt": lambda path: save_state(path, {"weights": torch.zeros(300_000)}),
        "x": lambda path: write_atomically(path, lambda p: p.write_bytes(b"x" * 100_000)),
    }.items():
        (tmp_path / f".{name}.tmp").symlink_to("/dev/full")
        with pytest.raises(DiskFull):
            save(tmp_path / name)
        assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_no_full_disk_stays_what_it_is(tmp_path):
    with pytest.raises(PermissionError):
        write_atomically(tmp_path / "x", lambda path: (_ for _ in ()).throw(PermissionError("no")))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)


def test_weights_and_metadata_come_back(tmp_path):
    metadata = {"classes": ["ants", "Bär", 'a "b"\n', "日本"], "job": "job_1", "val": {"loss": None}}
    model = network()
    digest, size = save_weights(tmp_path / "x.safetensors", model, metadata)
    content = (tmp_path / "x.safetensors").read_bytes()
    assert (digest, size) == (hashlib.sha256(content).hexdigest(), len(content))
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as file:
        told = file.metadata()
    assert told["format"] == "pt"
    assert told["job"] == "job_1"
    assert {key: json.loads(told[key]) for key in ("classes", "val")} == {
        "classes": metadata["classes"],
        "val": {"loss": None},
    }
    other = network()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    load_weights(tmp_path / "x.safetensors", other)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert other[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_the_files_bytes_are_the_same_in_every_process(tmp_path):
    code = """
import sys, torch
from pathlib import Path
from finetune.checkpoint import save_weights
torch.manual_seed(0)
metadata = {key: [key, "ä", {"x": 1}] for key in "some words that a hash puts in any order".split()}
model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
print(save_weights(Path(sys.argv[1]), model, metadata)[0])
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / f"{seed}.safetensors")],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(2)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("damage", ["cut", "other", "absent"])
def test_weights_that_are_damaged_or_of_another_network_are_incompatible(tmp_path, damage):
    file = tmp_path / "x.safetensors"
    save_weights(file, network() if damage == "cut" else nn.Linear(2, 2), {})
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-5])
    if damage == "absent":
        file.unlink()
    with pytest.raises(WeightsIncompatible, match=r"the checkpoint x\.safetensors cannot be loaded"):
        load_weights(file, network())


def test_a_resume_state_comes_back(tmp_path):
    state = {"standing": {"epoch": 3, "best": None}, "optimizer": {"a": {"step": torch.tensor(3.0)}}}
    save_state(tmp_path / "x.pt", state)
    assert load_state(tmp_path / "x.pt") == state


def test_a_resume_state_of_another_version_is_refused(tmp_path):
    torch.save({"version": 0}, tmp_path / "x.pt")
    with pytest.raises(WeightsIncompatible, match="written by another version of Thaw"):
        load_state(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_damaged_resume_state_is_incompatible(tmp_path, content):
    save_state(tmp_path / "x.pt", {"a": torch.zeros(100)})
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(WeightsIncompatible, match=r"the resume state x\.pt"):
        load_state(tmp_path / "x.pt")


def test_a_tied_weight_is_written_under_each_of_its_names(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    save_weights(tmp_path / "x.safetensors", model, {})
    written = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert written.keys() == model.state_dict().keys()
    assert torch.equal(written["0.weight"], written["1.weight"])
    load_weights(tmp_path / "x.safetensors", model)
