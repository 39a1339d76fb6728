import pytest

from finetune.preflight import check


@pytest.fixture
def problems(registry, data_dir, tmp_path):
    """The problems of a request as (param, code), and their messages."""

    def find(body):
        return check(body, registry, data_dir, tmp_path)

    return find


def stage(**fields):
    return {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}, **fields}


def codes(found):
    return [(problem.param, problem.code) for problem in found]


def test_a_sound_request_has_no_problems(problems, job):
    assert problems(job()) == []
    assert problems(job(stages=None, recipe={"name": "two_stage"})) == []


def test_everything_that_is_wrong_here_comes_at_once(problems, job):
    body = job(
        stage(freeze={"policy": "modules", "modules": ["stm", "body", "nothing"]}),
        stage(epochs="3"),
        stage(
            freeze={"policy": "before", "module": "boddy"},
            lr={
                "schedule": {"name": "constant", "lr": 1},
                "factors": [{"modules": ["head", "hed"], "factor": 1}],
            },
        ),
        stage(freeze={"policy": "modules", "modules": ["*"]}),
        dataset={"path": "hue"},
        batch_size=0,
    )
    found = problems(body)
    assert codes(found) == [
        ("stages.1.epochs", "int_type"),
        ("batch_size", "greater_than_equal"),
        ("dataset.path", "dataset_not_found"),
        ("stages.0.freeze.modules", "unknown_module"),
        ("stages.0.freeze.modules", "unknown_module"),
        ("stages.2.freeze.module", "unknown_module"),
        ("stages.2.lr.factors", "unknown_module"),
        ("stages.3.freeze", "nothing_trained"),
    ]
    messages = [problem.message for problem in found if problem.code == "unknown_module"]
    assert "no module is called 'stm'; did you mean 'stem'" in messages[0]
    assert "'nothing'" in messages[1]
    assert "did you mean 'body'" in messages[2]
    assert "did you mean 'head'" in messages[3]


def test_an_unknown_backbone_is_named_with_the_closest_and_its_stages_are_not_judged(problems, job):
    body = job(
        stage(freeze={"policy": "before", "module": "x"}), backbone={"name": "resnet81", "weights": None}
    )
    (problem,) = problems(body)
    assert (problem.param, problem.code) == ("backbone.name", "unknown_backbone")
    assert "'resnet18'" in problem.message


@pytest.mark.parametrize(
    ("weights", "param", "code"),
    [
        ("IMAGENET1K_V3", "backbone.weights", "unknown_weights"),
        ({"file": "absent.safetensors"}, "backbone.weights.file", "weights_not_found"),
        ({"file": "../x"}, "backbone.weights.file", "weights_not_found"),
        ({"job": "job_1"}, None, None),
        (None, None, None),
        ("DEFAULT", None, None),
    ],
    ids=str,
)
def test_weights_are_looked_for_without_a_download(problems, job, weights, param, code):
    expected = [(param, code)] if code else []
    assert codes(problems(job(backbone={"name": "resnet18", "weights": weights}))) == expected


@pytest.mark.parametrize("name", ["vit_b_16", "inception_v3", "maxvit_t"])
def test_an_image_size_that_the_backbone_does_not_take_is_a_problem(problems, job, name):
    body = job(stage(), backbone={"name": name, "weights": None}, image_size=50)
    assert codes(problems(body)) == [("image_size", "image_size_unfit")]


def test_an_image_size_that_is_itself_wrong_is_reported_once(problems, job):
    assert codes(problems(job(image_size="big"))) == [("image_size", "int_type")]


def test_rates_beyond_the_range_of_numbers_are_a_problem(problems, job):
    lr = {"schedule": {"name": "exponential", "lr": 1.0, "gamma": 1e6}}
    assert codes(problems(job(stage(epochs=100, lr=lr)))) == [("stages.0.lr.schedule", "unusable_rate")]


def triplet(**fields):
    return {"name": "triplet", "classes_per_batch": 3, "images_per_class": 4, **fields}


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"objective": triplet()}, []),
        ({"objective": triplet(images_per_class=8)}, []),
        (
            {"objective": triplet(images_per_class=9)},
            [("objective.images_per_class", "too_few_images")],
        ),
        ({"objective": triplet(classes_per_batch=4)}, [("objective.classes_per_batch", "too_few_classes")]),
        (
            {"stages": None, "recipe": {"name": "triplet"}},
            [("objective.classes_per_batch", "too_few_classes")],
        ),
        ({"objective": triplet(), "dataset": {"path": "none"}}, [("dataset.path", "dataset_not_found")]),
    ],
    ids=str,
)
def test_classes_and_images_are_counted_for_the_triplet_objective(problems, job, fields, found):
    stages = [stage(freeze={"policy": "none"})]
    assert codes(problems({**job(), "stages": stages, **fields})) == found


def test_a_batch_with_more_triplets_than_fit_is_a_problem(problems, job):
    body = {**job(stage(freeze={"policy": "none"})), "objective": triplet(images_per_class=342)}
    assert ("objective.classes_per_batch", "batch_too_large") in codes(problems(body))


@pytest.mark.parametrize(
    "body", [None, [], {}, {"stages": [3, None]}, {"backbone": {"name": "tiny"}}], ids=str
)
def test_a_body_of_any_shape_has_problems_and_no_crash(problems, body):
    assert problems(body)


def test_a_manifest_is_a_dataset_and_a_file_of_another_kind_is_none(registry, job, tmp_path):
    for name in ("labels.csv", "labels.parquet", "labels.txt"):
        (tmp_path / name).write_text("path,label\n")

    def found(name):
        return codes(check(job(dataset={"path": name}), registry, tmp_path, tmp_path))

    assert found("labels.csv") == found("labels.parquet") == []
    assert found("labels.txt") == [("dataset.path", "dataset_not_found")]
