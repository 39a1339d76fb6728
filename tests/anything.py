"""Whatever a client may send: any JSON, specs that are nearly sound, and specs with anything anywhere."""

import copy

from hypothesis import strategies as st

TEXT = st.text(
    st.characters(exclude_categories=()), max_size=8
)  # with lone surrogates, as JSON may hold them
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([2**63, -(2**70), 10**400]),
    st.floats(),
    TEXT,
    st.sampled_from(["sgd", "adam", "cosine", "list", "triplet", "standard", "none", "backbone", "<file>"]),
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)

RATES = st.one_of(st.sampled_from([0, 0.1, 1e6]), st.floats(0, 1e6))
SCHEDULES = st.one_of(
    st.fixed_dictionaries({"name": st.just("constant"), "lr": RATES}),
    st.fixed_dictionaries(
        {"name": st.just("list"), "values": st.lists(RATES | st.tuples(RATES, st.integers(1, 9)).map(list))}
    ),
    st.fixed_dictionaries(
        {"name": st.just("logspace"), "start": st.floats(-30, 6), "stop": st.floats(-30, 6)},
        optional={"num": st.integers(1, 20)},
    ),
    st.fixed_dictionaries(
        {"name": st.just("step"), "lr": RATES, "every": st.integers(1, 5), "gamma": RATES},
    ),
    st.fixed_dictionaries({"name": st.just("exponential"), "lr": RATES, "gamma": RATES}),
    st.fixed_dictionaries({"name": st.sampled_from(["linear", "cosine"]), "lr": RATES, "end_lr": RATES}),
    st.fixed_dictionaries(
        {"name": st.just("one_cycle"), "max_lr": RATES}, optional={"div": st.floats(1, 99)}
    ),
)
STAGES = st.fixed_dictionaries(
    {
        "epochs": st.integers(1, 12),
        "lr": st.fixed_dictionaries(
            {"schedule": SCHEDULES},
            optional={"warmup_epochs": st.floats(0, 3), "layer_decay": st.sampled_from([None, 0.5])},
        ),
    },
    optional={
        "name": st.sampled_from([None, "stage-1", "stage-2", "stage-1-2", "stage-2-2", "é", "a"]),
        "freeze": st.sampled_from([{"policy": "none"}, {"policy": "modules", "modules": ["a", "b.*"]}]),
        "optimizer": st.sampled_from([{"name": "sgd", "momentum": 0}, {"name": "adamw"}]),
        "augmentation": st.sampled_from(["none", "light", {"name": "standard"}]),
    },
)
RECIPES = st.one_of(
    st.fixed_dictionaries({"name": st.sampled_from(["two_stage", "joint", "triplet"])}),
    st.fixed_dictionaries(
        {"name": st.just("triplet"), "epochs": st.integers(1, 20), "lr": RATES},
        optional={
            "drops": st.lists(st.tuples(st.floats(0.01, 0.99), RATES).map(list), max_size=4).map(sorted),
        },
    ),
)
SPECS = st.fixed_dictionaries(
    {
        "dataset": st.fixed_dictionaries({"path": st.just("a")}, optional={"val_fraction": st.floats(0, 1)}),
        "backbone": st.fixed_dictionaries(
            {"name": st.just("resnet18")},
            optional={"weights": st.sampled_from([None, "X", {"file": "a"}, {"job": "b"}])},
        ),
    },
    optional={
        "stages": st.lists(STAGES, min_size=1, max_size=4),
        "recipe": RECIPES,
        "metadata": st.dictionaries(TEXT, TEXT, max_size=2),
        "objective": st.sampled_from([{"name": "cross_entropy"}, {"name": "triplet"}]),
        "name": TEXT,
    },
)


@st.composite
def mutated(draw):
    """A spec in which one place, anywhere, holds something else."""
    body = copy.deepcopy(draw(SPECS))
    place = body
    while True:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
            place = place[key]
            continue
        place[key] = draw(JSON)
        return body
