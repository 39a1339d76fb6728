"""What is wrong between fields, each refused with its path and a sentence."""

import pytest

from finetune.preflight import check

TRIPLET = {"name": "triplet", "embedding_size": 4, "classes_per_batch": 3}
BINARY = {"name": "binary_cross_entropy"}
STAGE = {"name": "all", "epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}


def stage(**fields):
    return {**STAGE, **fields}


REFUSED = [
    (
        [stage()],
        {"checkpoints": {"metric": "val_map"}},
        "checkpoints.metric",
        "the objective cross_entropy has no val_map; it has val_accuracy, val_loss",
    ),
    (
        [stage()],
        {"objective": TRIPLET, "checkpoints": {"metric": "val_accuracy"}},
        "checkpoints.metric",
        "it has val_recall@1, val_recall@5, val_map@r, val_loss",
    ),
    (
        [stage(early_stopping={"metric": "val_recall@1"})],
        {},
        "stages.0.early_stopping.metric",
        "the objective cross_entropy has no val_recall@1",
    ),
    (
        [stage()],
        {"checkpoints": {"weights": "ema"}},
        "checkpoints.weights",
        'weights "ema" needs a stage with an ema',
    ),
    (
        [stage(name="one"), stage(name="two", restore="best")],
        {},
        "stages.1.restore",
        "the last stage has none after it",
    ),
    ([stage(restore="best")], {}, "stages.0.restore", "the last stage has none after it"),
    (
        [stage()],
        {"on_oom": "halve_batch", "batch_size": 7},
        "on_oom",
        "an even batch_size of 4 or more",
    ),
    (
        [stage()],
        {"on_oom": "halve_batch", "batch_size": 2},
        "on_oom",
        "an even batch_size of 4 or more",
    ),
    ([stage()], {"on_oom": "halve_batch", "objective": TRIPLET}, "on_oom", "tear the triplets of a batch"),
    (
        [stage(accumulate=5001)],
        {"on_oom": "halve_batch"},
        "on_oom",
        "which may be 10,000 at most",
    ),
    ([stage(sampler="balanced")], {"objective": TRIPLET}, "stages.0.sampler", "leave the sampler out"),
    ([stage(mix="mixup")], {"objective": TRIPLET}, "stages.0.mix", "leave mix out"),
    (
        [stage(mix="cutmix")],
        {"batch_size": 1},
        "stages.0.mix",
        "a batch of one image has none to mix it with",
    ),
    (
        [stage(sampler="balanced")],
        {"objective": BINARY},
        "stages.0.sampler",
        "set class_weights of the objective",
    ),
    (
        [stage(feature_views=2)],
        {},
        "stages.0.feature_views",
        'with augmentation "none" each image has one view',
    ),
    (
        [stage(feature_views=2, augmentation="light")],
        {},
        "stages.0.feature_views",
        'with augmentation "light" each image has two views',
    ),
    (
        [stage(feature_views=2, augmentation="standard", mix="mixup")],
        {},
        "stages.0.feature_views",
        "mixup makes new images in each epoch",
    ),
    (
        [stage(feature_views=2, augmentation="standard", features_once=False)],
        {},
        "stages.0.feature_views",
        "no features are kept where features_once is false: leave feature_views out",
    ),
]


@pytest.fixture
def problems(registry, data_dir, tmp_path):
    return lambda body: check(body, registry, data_dir, tmp_path)


@pytest.mark.parametrize(
    ("stages", "fields", "param", "words"), REFUSED, ids=[r[2] + r[3][:20] for r in REFUSED]
)
def test_it_is_refused_with_the_field_and_a_sentence(problems, job, stages, fields, param, words):
    (problem,) = problems(job(*stages, **fields))
    assert problem.param == param
    assert words in problem.message


def test_all_of_them_are_said_at_once(problems, job):
    body = job(
        stage(mix="mixup", sampler="balanced", early_stopping={"metric": "val_accuracy"}),
        objective=TRIPLET,
        checkpoints={"metric": "val_f1", "weights": "ema"},
    )
    assert [problem.param for problem in problems(body)] == [
        "checkpoints.metric",
        "checkpoints.weights",
        "stages.0.early_stopping.metric",
        "stages.0.sampler",
        "stages.0.mix",
    ]


def test_a_problem_of_a_recipes_stages_is_the_recipes_and_is_said_once(problems, job):
    body = {**job(), "recipe": {"name": "two_stage"}, "objective": {**TRIPLET, "embedding_size": None}}
    del body["stages"]
    (problem,) = problems(body)
    assert (problem.param, problem.code) == ("recipe.freeze", "nothing_trained")


def test_another_objective_beside_the_recipe_triplet_is_refused(problems, job):
    body = {**job(), "recipe": {"name": "triplet"}, "objective": {"name": "focal"}}
    del body["stages"]
    (problem,) = problems(body)
    assert (problem.param, problem.message) == (
        "recipe",
        "trains with the objective triplet: leave the other objective out",
    )


@pytest.mark.parametrize("name", ["two_stage", "joint", "linear_probe", "gradual"])
def test_each_recipe_is_sound(problems, job, name):
    body = {**job(), "recipe": {"name": name}}
    del body["stages"]
    assert problems(body) == []
