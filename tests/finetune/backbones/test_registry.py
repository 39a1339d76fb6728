import sys

import pytest

from finetune.backbones import Registry, load
from finetune.errors import SpecInvalid

MODULE = """
from torch import nn
from finetune.backbones import backbone
from finetune.data.preprocessing import Preprocessing

@backbone(name="{name}", head="{head}", preprocessing=Preprocessing())
def row(num_classes):
    {body}
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes) if False else nn.Linear(12, num_classes))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    written = []

    def write(file, text):
        (tmp_path / f"{file}.py").write_text(text)
        written.append(file)

    yield write
    for file in written:
        sys.modules.pop(file, None)


def test_a_registered_backbone_is_found_by_its_name_before_torchvisions(module):
    module("thaw_rows", MODULE.format(name="mine", head="1", body="pass"))
    registry = load(["thaw_rows:row"])
    assert registry.failures == {}
    assert registry.names()[0] == "mine"
    assert registry.find("mine").heads == ("1",)
    assert registry.find("resnet18").source == "torchvision"


def test_those_that_fail_are_named_with_the_reason_and_the_others_work(module):
    module("thaw_good", MODULE.format(name="good", head="1", body="pass"))
    module("thaw_raises", "raise RuntimeError('no licence')")
    module("thaw_wrong", "row = 3")
    module("thaw_exits", "raise SystemExit(3)")
    module("thaw_second", MODULE.format(name="good", head="1", body="pass"))
    module("thaw_builder", MODULE.format(name="broken", head="1", body="raise OSError('no table')"))
    module("thaw_headless", MODULE.format(name="headless", head="fc", body="pass"))
    files = ["raises", "wrong", "exits", "builder", "headless", "absent", "good", "second"]
    registry = load([*(f"thaw_{file}:row" for file in files), "thaw_good:column", "thaw_good"])
    assert list(registry.registered) == ["good"]
    assert {path: reason.split(":")[0] for path, reason in registry.failures.items()} == {
        "thaw_raises:row": "RuntimeError",
        "thaw_exits:row": "SystemExit",
        "thaw_second:row": "is called 'good', as another registered backbone is",
        "thaw_wrong:row": "is no backbone but int; see finetune.backbones.backbone",
        "thaw_builder:row": "the backbone 'broken' cannot be built",
        "thaw_headless:row": "the backbone 'headless' has no module 'fc', which its row names as head",
        "thaw_absent:row": "ModuleNotFoundError",
        "thaw_good:column": "AttributeError",
        "thaw_good": "AttributeError",
    }
    assert "no licence" in registry.failures["thaw_raises:row"]


def test_an_unknown_name_is_refused_with_the_closest():
    with pytest.raises(SpecInvalid) as refused:
        Registry().find("resnet19")
    assert (refused.value.param, "'resnet18'" in refused.value.message) == ("backbone.name", True)


def test_an_unknown_name_says_which_registered_ones_could_not_be_loaded():
    registry = load(["thaw_absent:row"])
    with pytest.raises(SpecInvalid, match="thaw_absent:row could not be loaded: ModuleNotFoundError"):
        registry.find("mine")


def install(folder, **points):
    """What an installed package leaves behind of its entry points: a dist-info folder on the path."""
    about = folder / "zoo-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (about / "entry_points.txt").write_text(f"[thaw.backbones]\n{lines}")


def test_an_installed_package_registers_its_backbones_by_entry_points(module, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module("thaw_zoo", MODULE.format(name="zoo_net", head="1", body="pass"))
    install(tmp_path, net="thaw_zoo:row", gone="thaw_zoo:gone")
    registry = load([])
    assert list(registry.registered) == ["zoo_net"]
    (origin,) = registry.failures
    assert origin == "entry point gone = thaw_zoo:gone"
    assert registry.failures[origin].startswith("AttributeError: ")


def test_a_registered_backbone_that_needs_values_is_built_with_them_and_one_that_copies_them_without(module):
    module(
        "thaw_widths",
        MODULE.format(name="widths", head="1", body="import torch; torch.linspace(0, 1, 3).tolist()"),
    )
    copying = "import torch; p = nn.Linear(2, 2); torch.zeros(2, 2).copy_(p.weight.detach())"
    module("thaw_copies", MODULE.format(name="copies", head="1", body=copying))
    registry = load(["thaw_widths:row", "thaw_copies:row"])
    assert (registry.failures, list(registry.registered)) == ({}, ["widths", "copies"])
