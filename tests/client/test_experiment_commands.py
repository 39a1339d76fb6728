import json
import signal

import pytest
import yaml

SPEC = {"dataset": {"path": "hymenoptera"}}
RECIPES = [{"name": name, "patch": {"recipe": {"name": name}}} for name in ("two_stage", "joint")]


@pytest.fixture
def ended(api, make_experiment):
    """Lets the server have an experiment that has ended so."""

    def play(status="succeeded", values=(0.9, 0.8, 0.85, 0.825), **fields):
        api.on("POST", "/v1/experiments", api.Reply(make_experiment("queued", (None,) * 4), 201))
        api.on("GET", "/v1/experiments/exp_1", make_experiment(status, values, **fields))

    return play


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def test_compare_sends_the_recipes_as_variants_and_prints_table_pairs_and_answer(api, thaw, spec, ended):
    ended(answer="joint beats two_stage")
    result = thaw("compare", spec, "--recipes", "two_stage,joint", "--seeds", "2")
    assert result.exit_code == 0
    assert api.requests[0].json == {"spec": SPEC, "variants": RECIPES, "seeds": [0, 1]}
    lines = result.stdout.splitlines()
    assert lines[0] == "exp_1"
    assert lines[1] == (
        "joint with seed 0 succeeded: val_accuracy 0.9000 at epoch 7, 81.5 s (4/4 jobs ended, job_0)"
    )
    assert len([line for line in lines if "jobs ended" in line]) == 4
    assert lines[5].split()[:3] == ["variant", "n", "val_accuracy"]
    assert lines[6].split() == ["joint", "2", "0.8750", "0.0125", "7.5", "81.5", "0", "0.9000", "0.8500"]
    assert "joint - two_stage" in result.stdout
    assert lines[-1] == "joint beats two_stage"


@pytest.mark.parametrize(
    ("said", "seeds"), [("1", [0]), ("3", [0, 1, 2]), ("0,5,7", [0, 5, 7]), ("4,", [4]), (" 2 , 1 ", [2, 1])]
)
def test_seeds_are_a_count_or_a_list(api, thaw, spec, ended, said, seeds):
    ended()
    assert thaw("compare", spec, "--recipes", "joint", "--seeds", said).exit_code == 0
    assert api.requests[0].json["seeds"] == seeds


@pytest.mark.parametrize("said", ["0", "51", "-1", "", ",", "a", "1;2", "1.5", "9" * 30, "1," + "9" * 30])
def test_what_is_neither_never_reaches_the_server(api, thaw, spec, said):
    result = thaw("compare", spec, "--recipes", "joint", f"--seeds={said}")
    assert result.exit_code == 2
    assert "seeds" in result.stderr
    assert api.requests == []


def test_variants_come_from_a_file_beside_the_recipes(api, thaw, spec, ended, write):
    variants = [{"name": "small", "patch": {"backbone": {"name": "resnet18", "weights": None}}}]
    for name, content in (("v.json", variants), ("v.yaml", yaml.safe_dump(variants))):
        ended()
        assert thaw("compare", spec, "--variants", write(name, content)).exit_code == 0
        assert api.requests[-2].json["variants"] == variants
    ended()
    thaw("compare", spec, "--recipes", "joint", "--variants", write("v.json", variants))
    assert api.requests[-2].json["variants"] == [RECIPES[1], *variants]


def test_variants_that_are_no_list_never_reach_the_server(api, thaw, spec, write):
    path = write("v.yaml", "name: small\n")
    result = thaw("compare", spec, "--variants", path)
    assert (result.exit_code, result.stderr) == (
        2,
        f"thaw: {path}: variants are a list of objects with `name` and `patch` in them\n",
    )
    assert api.requests == []


def test_nothing_to_compare_is_wrong_usage(api, thaw, spec):
    result = thaw("compare", spec)
    assert (result.exit_code, api.requests) == (2, [])
    assert "--recipes or --variants" in result.stderr


def test_a_jobs_spec_is_a_base_its_name_the_experiments_and_its_seed_left_out_with_a_word(
    api, thaw, ended, write
):
    ended()
    path = write("s.json", {**SPEC, "name": "ants", "seed": 3, "metadata": {"team": "zoo"}})
    result = thaw("compare", path, "--recipes", "joint", "--metric", "val_loss")
    assert api.requests[0].json == {
        "spec": SPEC | {"metadata": {"team": "zoo"}},
        "variants": RECIPES[1:],
        "seeds": [0, 1, 2],
        "name": "ants",
        "metric": "val_loss",
    }
    assert result.stderr == "the spec's seed is left out: the seeds are 0, 1, 2\n"
    ended()
    thaw("compare", path, "--recipes", "joint", "--name", "bees")
    assert api.requests[-2].json["name"] == "bees"


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 3)])
def test_compare_ends_with_the_exit_code_of_the_experiment(thaw, spec, ended, status, code):
    ended(status)
    assert thaw("compare", spec, "--recipes", "joint").exit_code == code


def test_every_problem_of_an_experiment_is_a_line(api, thaw, spec):
    details = [
        {"param": "spec.batch_size", "message": "is required"},
        {"param": "variants.1.patch.recipe", "message": "unknown name 'jont'; did you mean 'joint'?"},
    ]
    api.on("POST", "/v1/experiments", api.refusal(422, "spec.batch_size: is required", details=details))
    result = thaw("compare", spec, "--recipes", "two_stage,jont")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "thaw: spec.batch_size: is required",
        "variants.1.patch.recipe: unknown name 'jont'; did you mean 'joint'?",
    ]


def test_ctrl_c_leaves_the_experiment_running_and_says_how_to_look_again(api, start, spec, make_experiment):
    api.on("POST", "/v1/experiments", api.Reply(make_experiment(), 201))
    api.on("GET", "/v1/experiments/exp_1", make_experiment())
    process = start("compare", spec, "--recipes", "two_stage,joint")
    assert process.stdout.readline() == "exp_1\n"
    assert process.stdout.readline().startswith("joint with seed 0 succeeded")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr == ("exp_1 goes on; `thaw experiment exp_1` shows the table, `thaw cancel exp_1` ends it\n")
    assert not any("cancel" in path for path in api.paths())


def test_an_experiment_is_shown_at_any_time(api, thaw, make_experiment):
    api.on("GET", "/v1/experiments/exp_1", make_experiment())
    result = thaw("experiment", "exp_1")
    assert result.exit_code == 0
    assert "running" in result.stdout
    assert "2/4" in result.stdout
    assert "queued" in result.stdout
    assert result.stdout.splitlines()[-1] == "it is too early to say"
    assert json.loads(thaw("experiment", "exp_1", "--json").stdout) == make_experiment()


def test_experiments_are_listed(api, thaw, make_experiment):
    page = api.page(make_experiment(), make_experiment("succeeded", id="exp_0"), has_more=True)
    api.on("GET", "/v1/experiments", page)
    result = thaw("experiments", "--limit", "2")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["experiment", "exp_1", "exp_0"]
    assert result.stderr == "there are older experiments; --limit shows more\n"
    assert api.requests[0].query == {"limit": ["2"]}
    assert json.loads(thaw("experiments", "--json").stdout) == page


def test_an_unknown_experiment_is_one_line(api, thaw):
    api.on("GET", "/v1/experiments/exp_9", api.refusal(404, "there is no experiment exp_9"))
    result = thaw("experiment", "exp_9")
    assert (result.exit_code, result.stderr) == (1, "thaw: there is no experiment exp_9\n")
