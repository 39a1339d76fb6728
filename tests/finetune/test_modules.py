import pytest
from torch import nn

from finetune.modules import UnknownModule, blocks, containers_of, matching, summarize, within

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


class Repeated(nn.Module):
    """A list that is no layer (nothing calls it), and a layer that holds most of the parameters."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.token = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
        self.trunk = nn.Sequential(*(nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9)) for _ in range(4)))
        self.norm = nn.LayerNorm(9)
        self.head = nn.Linear(9, 500)
        self.head_dist = nn.Linear(9, 500)


def test_containers_are_found_from_the_structure():
    model, heads = Repeated(), ("head", "head_dist")
    assert containers_of(model, heads) == ("token", "trunk")
    trunk = [f"trunk.{n}" for n in range(4)]
    assert blocks(model, ("token", "trunk"), heads) == ["stem", "token.0", "token.1", *trunk, "head"]


def test_containers_are_the_same_for_any_number_of_classes():
    small, large = Repeated(), Repeated()
    large.head, small.head = nn.Linear(9, 10**5), nn.Linear(9, 2)
    heads = ("head", "head_dist")
    assert containers_of(small, heads) == containers_of(large, heads)


def test_a_network_with_enough_blocks_is_left_as_it_is():
    model = nn.Sequential(*(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(6)))
    assert containers_of(model, ("5",)) == ()


def test_heads_behind_the_first_belong_to_its_block():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    assert blocks(model, (), ("1", "2")) == ["0", "1"]
    assert blocks(model, (), ("2", "1")) == ["0", "1", "2"]  # one before it is a block of its own
