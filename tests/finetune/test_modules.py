import pytest
from torch import nn

from finetune.modules import UnknownModule, blocks, matching, summarize, within

NET = nn.Sequential()
NET.add_module("stem", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
NET.add_module("layers", nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.ReLU(), nn.Linear(2, 2)))
NET.add_module("norm", nn.LayerNorm(2))
NET.add_module("fc", nn.Linear(2, 3))


def test_a_name_means_the_module_and_everything_inside_it():
    assert matching(NET, ("fc",), "layers") == ["layers", "layers.0", "layers.1", "layers.2", "layers.3"]
    assert matching(NET, ("fc",), "layers.0") == ["layers.0"]


def test_a_glob_means_all_that_match_with_everything_inside_them():
    assert matching(NET, ("fc",), "s*") == ["stem", "stem.0", "stem.1"]
    assert matching(NET, ("fc",), "*.0") == ["stem.0", "layers.0"]


def test_head_stands_for_the_heads_where_no_module_has_that_name():
    assert matching(NET, ("fc",), "head") == ["fc"]
    own = nn.ModuleDict({"head": nn.Linear(1, 1), "fc": nn.Linear(1, 1)})
    assert matching(own, ("fc",), "head") == ["head"]


def test_a_beginning_alone_is_no_match():
    with pytest.raises(UnknownModule, match="did you mean 'layers'"):
        matching(NET, ("fc",), "layer")


def test_within_takes_no_neighbour_whose_name_begins_alike():
    assert within(["a", "a.b", "ab", "c.a"], ["a"]) == ["a", "a.b"]


def test_a_summary_names_the_fewest_modules():
    assert summarize(NET, {"stem.0", "stem.1", "fc"}) == {"stem": 112 + 8, "fc": 9}
    assert summarize(NET, {"layers.0"}) == {"layers.0": 6}
    assert summarize(NET, {"stem.0", "stem.1", "layers.0", "layers.1", "layers.3", "norm", "fc"}) == {
        "(whole network)": 112 + 8 + 6 + 4 + 6 + 4 + 9
    }
    assert summarize(NET, set()) == {}
    assert summarize(NET, {"layers.2"}) == {}


def test_blocks_are_the_children_and_those_of_containers_with_norms_beside_them():
    assert blocks(NET, ()) == ["stem", "layers", "fc"]
    assert blocks(NET, ("layers",)) == ["stem", "layers.0", "layers.3", "fc"]
