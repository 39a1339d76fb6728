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
    module("thaw_builder", MODULE.format(name="broken", head="1", body="raise OSError('no table')"))
    module("thaw_headless", MODULE.format(name="headless", head="fc", body="pass"))
    files = ["raises", "wrong", "builder", "headless", "absent", "good"]
    registry = load([*(f"thaw_{file}:row" for file in files), "thaw_good:column", "thaw_good"])
    assert list(registry.registered) == ["good"]
    assert {path: reason.split(":")[0] for path, reason in registry.failures.items()} == {
        "thaw_raises:row": "RuntimeError",
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


def test_a_timm_name_says_that_timm_is_not_here():
    with pytest.raises(SpecInvalid, match="timm's models are not in this version"):
        Registry().find("timm/resnet18")


def test_an_unknown_name_says_which_registered_ones_could_not_be_loaded():
    registry = load(["thaw_absent:row"])
    with pytest.raises(SpecInvalid, match="thaw_absent:row could not be loaded: ModuleNotFoundError"):
        registry.find("mine")
