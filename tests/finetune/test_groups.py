import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from finetune.freezing import freezing_of
from finetune.groups import groups_of
from finetune.modules import UnknownModule
from finetune.spec.schedules import LrPlan
from finetune.spec.stages import StageSpec


def linear():
    return nn.Linear(2, 2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(linear().weight.detach())
        self.stem = linear()
        self.blocks = nn.Sequential(
            nn.Sequential(linear(), nn.LayerNorm(2)), nn.Sequential(linear()), linear()
        )
        self.default = linear()
        self.head = linear()


NET = Net()
PARAMETERS = [name for name, _ in NET.named_parameters()]


def grouped(lr, freeze=None, spares=False):
    stage = StageSpec.model_validate(
        {
            "epochs": 1,
            "freeze": freeze or {"policy": "none"},
            "lr": {"schedule": {"name": "constant", "lr": 1.0}, **lr},
        }
    )
    freezing = freezing_of(NET, ("head",), stage.freeze, "eval")
    return groups_of(NET, ("head",), ("blocks",), freezing, stage.lr, spares=spares), freezing


def factors(*entries, **fields):
    return {"factors": [{"modules": modules, "factor": factor} for modules, factor in entries], **fields}


def by_parameter(grouping):
    return {parameter: group.factor for group in grouping.groups for parameter in group.parameters}


def test_without_factors_everything_is_in_the_default_group():
    grouping, _ = grouped({})
    assert [(group.name, group.factor, list(group.parameters)) for group in grouping.groups] == [
        ("default", 1.0, PARAMETERS)
    ]
    assert grouping.groups[0].count == sum(parameter.numel() for parameter in NET.parameters())


def test_the_first_factor_that_matches_counts_and_the_rest_is_in_the_default_group():
    grouping, _ = grouped(
        factors((["blocks.0"], 3), (["blocks", "head"], 5), (["blocks.0.0"], 7), default_factor=0.5)
    )
    found = by_parameter(grouping)
    assert {
        name: found[name] for name in ("blocks.0.0.weight", "blocks.1.0.bias", "head.bias", "stem.weight")
    } == {
        "blocks.0.0.weight": 3,
        "blocks.1.0.bias": 5,
        "head.bias": 5,
        "stem.weight": 0.5,
    }
    assert found["token"] == 0.5
    assert [group.name for group in grouping.groups] == ["blocks.0", "blocks,head", "default"]
    assert grouping.idle == ("blocks.0.0",)


def test_a_factor_that_touches_only_frozen_modules_is_idle():
    grouping, _ = grouped(factors((["stem"], 3), (["head"], 10)), {"policy": "before", "module": "blocks"})
    assert grouping.idle == ("stem",)
    assert [group.name for group in grouping.groups] == ["head", "default"]


def test_head_stands_for_the_backbones_head():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    lr = LrPlan.model_validate({"schedule": {"name": "constant", "lr": 1}, **factors((["head"], 10))})
    stage = StageSpec.model_validate({"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 1}}})
    freezing = freezing_of(net, ("1",), stage.freeze, "eval")
    groups = groups_of(net, ("1",), (), freezing, lr).groups
    assert [(group.name, group.modules) for group in groups] == [("head", ("1",)), ("default", ("0",))]


def test_a_module_called_default_is_not_the_default_group():
    grouping, _ = grouped(factors((["default"], 3)))
    assert [(group.name, group.factor) for group in grouping.groups] == [
        ("default (module)", 3),
        ("default", 1),
    ]


def test_layer_decay_gives_each_block_nearer_to_the_input_a_smaller_factor():
    grouping, _ = grouped({"layer_decay": 0.5})
    assert [(group.name, group.factor) for group in grouping.groups] == [
        ("stem", 2**-5),
        ("blocks.0", 2**-4),
        ("blocks.1", 2**-3),
        ("blocks.2", 2**-2),
        ("default", 2**-1),
        ("head", 1.0),
    ]
    found = by_parameter(grouping)
    assert found["token"] == 2**-5
    assert found["blocks.0.1.weight"] == 2**-4


def test_layer_decay_leaves_frozen_blocks_out_and_keeps_the_factors_of_the_others():
    grouping, _ = grouped({"layer_decay": 0.5}, {"policy": "before", "module": "blocks.2"})
    assert [(group.name, group.factor) for group in grouping.groups] == [
        ("blocks.2", 0.25),
        ("default", 0.5),
        ("head", 1.0),
    ]
    assert grouping.idle == ()


def test_a_factors_name_that_matches_nothing_is_refused():
    with pytest.raises(UnknownModule, match="did you mean 'stem'"):
        grouped(factors((["stm"], 3)))


NAMES = [name for name, _ in NET.named_modules() if name]
PATTERNS = st.lists(st.sampled_from([*NAMES, "blocks.*", "*.0", "*", "?e*", "head"]), min_size=1, max_size=3)
FREEZES = st.one_of(
    st.just({"policy": "none"}),
    st.just({"policy": "backbone"}),
    st.builds(lambda name: {"policy": "before", "module": name}, st.sampled_from(NAMES)),
    st.builds(
        lambda p, names: {"policy": p, "modules": names}, st.sampled_from(["modules", "except"]), PATTERNS
    ),
)
PLANS = st.one_of(
    st.builds(lambda decay: {"layer_decay": decay}, st.sampled_from([0.5, 0.75, 1.0])),
    st.builds(
        lambda entries, default: factors(*entries, default_factor=default),
        st.lists(st.tuples(PATTERNS, st.sampled_from([0.0, 0.1, 10.0])), max_size=4),
        st.sampled_from([0.0, 1.0]),
    ),
)


def is_spared(parameter):
    """Of `Net`: the biases, and both parameters of the LayerNorm."""
    return parameter.endswith("bias") or parameter == "blocks.0.1.weight"


def test_spared_norms_and_biases_are_in_groups_of_their_own_beside_the_others():
    grouping, _ = grouped(factors((["head"], 10)), spares=True)
    assert [(group.name, group.factor, group.decays) for group in grouping.groups] == [
        ("head", 10, True),
        ("head (no decay)", 10, False),
        ("default", 1, True),
        ("default (no decay)", 1, False),
    ]
    for group in grouping.groups:
        assert all(is_spared(parameter) != group.decays for parameter in group.parameters)
    assert all(group.decays for group in grouped(factors((["head"], 10)))[0].groups)


def test_a_group_of_norms_and_biases_alone_is_one():
    grouping, _ = grouped(
        factors((["blocks.0.1"], 3)), {"policy": "except", "modules": ["blocks.0.1"]}, spares=True
    )
    assert [group.name for group in grouping.groups] == ["blocks.0.1 (no decay)"]
    assert grouping.idle == ()


@pytest.mark.parametrize(
    ("layer", "spared"),
    [
        (nn.BatchNorm2d(3), {"weight", "bias"}),
        (nn.GroupNorm(1, 3), {"weight", "bias"}),
        (nn.LayerNorm((3, 2, 2)), {"weight", "bias"}),
        (nn.RMSNorm((3, 2)), {"weight"}),
        (nn.Conv2d(3, 3, 1), {"bias"}),
        (nn.Linear(3, 3), {"bias"}),
        (nn.Embedding(3, 3), set()),
    ],
    ids=str,
)
def test_spared_is_what_normalises_whatever_its_shape_and_what_is_added(layer, spared):
    net = nn.Sequential(layer, nn.Linear(2, 2))
    stage = StageSpec.model_validate({"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 1}}})
    freezing = freezing_of(net, ("1",), stage.freeze, "eval")
    groups = groups_of(net, ("1",), (), freezing, stage.lr, spares=True).groups
    alone = {parameter for group in groups if not group.decays for parameter in group.parameters}
    assert {name.removeprefix("0.") for name in alone if name.startswith("0.")} == spared


@given(FREEZES, PLANS)
@settings(deadline=None, max_examples=100)
def test_sparing_norms_and_biases_changes_no_rate(freeze, lr):
    plain, _ = grouped(lr, freeze)
    spared, _ = grouped(lr, freeze, spares=True)
    assert by_parameter(plain) == by_parameter(spared)
    assert plain.idle == spared.idle
    for group in spared.groups:
        assert group.name.endswith(" (no decay)") != group.decays
        assert all(is_spared(parameter) != group.decays for parameter in group.parameters)


@given(FREEZES, PLANS, st.booleans())
@settings(deadline=None, max_examples=200)
def test_whatever_is_frozen_each_trained_parameter_is_in_exactly_one_group(freeze, lr, spares):
    grouping, freezing = grouped(lr, freeze, spares)
    held = [parameter for group in grouping.groups for parameter in group.parameters]
    assert sorted(held) == sorted(set(PARAMETERS) - set(freezing.parameters))
    names = [group.name for group in grouping.groups]
    assert len(set(names)) == len(names)
    assert all(group.parameters and group.modules for group in grouping.groups)
