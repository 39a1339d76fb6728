from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from scipy.stats import ttest_rel

from app.store.attempts import claim, finish
from app.store.states import Status


@pytest.fixture
def begin(api, make_experiment) -> Callable[..., dict[str, Any]]:
    """Posts an experiment whose jobs are taken before those that other tests have left."""

    def post(**changes):
        body = make_experiment(**changes)
        body["spec"]["priority"] = 1000
        response = api.post("/v1/experiments", json=body)
        assert response.status_code == 201, response.text
        return response.json()

    return post


@pytest.fixture
def run_one(store, write_epoch) -> Callable[..., str]:
    """Takes the next job and ends it, with the values of its epochs."""

    def run(*values, status=Status.SUCCEEDED):
        held = claim(store, "a worker", 600)
        assert held is not None
        for number, value in enumerate(values, start=1):
            write_epoch(held, number, value=value, best=value == max(values[:number]))
        finish(store, held, status, "the test said so")
        return held.job_id

    return run


@pytest.fixture
def look(api) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda experiment: api.get(f"/v1/experiments/{experiment['id']}").json()


def test_new_experiment_has_its_fields_and_a_queued_job_for_each_variant_and_seed(api, begin, look):
    made = begin(name="which", metadata={"team": "zoo"})
    assert made["object"] == "experiment"
    assert made["id"].startswith("exp_")
    assert (made["name"], made["metadata"], made["status"]) == ("which", {"team": "zoo"}, "queued")
    assert made["progress"] == dict.fromkeys(Status, 0) | {"queued": 4}
    assert (made["seeds"], made["metric"]) == ([0, 1], "val_accuracy")
    assert made["answer"] == "too early to say: 0 of 4 jobs have ended"
    assert [(row["variant"], row["n"], row["values"]) for row in made["table"]] == [
        ("two_stage", 0, {"0": None, "1": None}),
        ("joint", 0, {"0": None, "1": None}),
    ]
    assert look(made) == made
    cells = [(job["variant"], job["seed"], job["status"]) for job in made["jobs"]]
    assert cells == [(v, seed, "queued") for seed in (0, 1) for v in ("two_stage", "joint")]
    for each in made["jobs"]:
        job = api.get(f"/v1/jobs/{each['id']}").json()
        assert (job["experiment"], job["variant"]) == (made["id"], each["variant"])
        assert job["name"] == f"which/{each['variant']}/{each['seed']}"
        assert job["spec"]["seed"] == job["resolved_spec"]["seed"] == each["seed"]
        assert job["spec"]["recipe"]["name"] == each["variant"]
    listed = api.get("/v1/jobs", params={"experiment": made["id"]}).json()["data"]
    assert [job["id"] for job in listed] == [job["id"] for job in reversed(made["jobs"])]
    api.post(f"/v1/experiments/{made['id']}/cancel")


def test_a_job_of_its_own_is_of_no_experiment(post):
    job = post()
    assert (job["experiment"], job["variant"]) == (None, None)


def test_the_table_and_the_answer_follow_from_the_jobs(begin, run_one, look):
    made = begin(seeds=[0, 1, 2])
    values = {"two_stage": [0.8, 0.82, 0.79], "joint": [0.9, 0.93, 0.9]}
    for seed in range(3):
        run_one(0.1, values["two_stage"][seed])
        run_one(values["joint"][seed], 0.2, 0.3)
        now = look(made)
        assert now["status"] == ("succeeded" if seed == 2 else "running")
        assert now["progress"]["succeeded"] == 2 * seed + 2
    assert [row["values"] for row in now["table"]] == [
        {str(seed): value for seed, value in enumerate(values[name])} for name in ("two_stage", "joint")
    ]
    assert [(row["n"], row["best_epoch"], row["failed"]) for row in now["table"]] == [
        (3, 2.0, 0),
        (3, 1.0, 0),
    ]
    assert all(row["seconds"] >= 0 for row in now["table"])
    (pair,) = now["comparisons"]
    assert (pair["a"], pair["b"], pair["n"], pair["differs"]) == ("two_stage", "joint", 3, True)
    assert pair["p_value"] == pytest.approx(ttest_rel(values["two_stage"], values["joint"]).pvalue)
    assert pair["mean_difference"] == pytest.approx(-0.32 / 3)
    assert now["answer"].startswith("joint beats two_stage by 10.7 ± ")
    assert [job["best_epoch"] for job in now["jobs"]] == [2, 1, 2, 1, 2, 1]


def test_an_experiment_that_has_not_changed_is_not_sent_again(api, begin):
    made = begin()
    address = f"/v1/experiments/{made['id']}"
    first = api.get(address)
    again = api.get(address, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    api.post(f"{address}/cancel")
    changed = api.get(address, headers={"If-None-Match": first.headers["ETag"]})
    assert (changed.status_code, changed.json()["status"]) == (200, "cancelled")


def test_the_same_key_and_body_give_the_same_experiment_again(api, make_experiment):
    headers = {"Idempotency-Key": uuid4().hex}
    body = make_experiment()
    first = api.post("/v1/experiments", json=body, headers=headers)
    again = api.post("/v1/experiments", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    other = api.post("/v1/experiments", json=make_experiment(seeds=[5]), headers=headers)
    assert other.status_code == 409
    assert "was used before with another request" in other.json()["error"]["message"]
    api.post(f"/v1/experiments/{first.json()['id']}/cancel")


def test_nothing_is_stored_of_an_experiment_with_a_problem(api, make_experiment):
    newest = lambda: [api.get(f"/v1/{path}?limit=1").json()["first_id"] for path in ("jobs", "experiments")]  # noqa: E731
    before = newest()
    body = make_experiment()
    body["variants"][1]["patch"] = {"recipe": {"name": "jont"}, "backbone": {"name": "tiny_nett"}}
    body["spec"]["dataset"]["path"] = "shape"
    response = api.post("/v1/experiments", json=body)
    assert response.status_code == 422
    problems = {each["param"]: each["message"] for each in response.json()["error"]["details"]}
    assert set(problems) == {
        "spec.dataset.path",
        "variants.1.patch.recipe",
        "variants.1.patch.backbone.name",
    }
    assert "did you mean 'shapes'?" in problems["spec.dataset.path"]
    assert newest() == before


def test_a_body_that_is_no_object_is_refused(api):
    for body in (b"[]", b"null", b'"x"', b"3"):
        assert api.post("/v1/experiments", content=body).status_code == 422
    assert api.post("/v1/experiments", content=b"{").status_code == 400


def test_pages_of_experiments_are_newest_first(api, begin):
    made = [begin()["id"] for _ in range(3)]
    first = api.get("/v1/experiments", params={"limit": 2}).json()
    assert ([each["id"] for each in first["data"]], first["has_more"]) == (made[:0:-1], True)
    rest = api.get("/v1/experiments", params={"limit": 1, "after": first["last_id"]}).json()
    assert [each["id"] for each in rest["data"]] == made[:1]
    unknown = api.get("/v1/experiments", params={"after": "exp_0"})
    assert unknown.status_code == 422
    assert unknown.json()["error"]["message"] == "after: there is no experiment exp_0 to continue after"
    for each in made:
        api.post(f"/v1/experiments/{each}/cancel")


def test_cancelling_ends_all_jobs_that_have_not_ended(api, begin, run_one, look):
    made = begin()
    done = run_one(0.5)
    response = api.post(f"/v1/experiments/{made['id']}/cancel")
    assert response.status_code == 200
    assert response.json()["status"] == "cancelled"
    assert response.json()["progress"] | {"succeeded": 1, "cancelled": 3} == response.json()["progress"]
    assert api.get(f"/v1/jobs/{done}").json()["status"] == "succeeded"
    again = api.post(f"/v1/experiments/{made['id']}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert again.json()["error"]["message"] == f"experiment {made['id']} has ended and cannot be cancelled"


def test_a_deleted_experiment_is_gone_with_its_jobs_and_their_artifacts(api, begin, run_one, house):
    made = begin()
    done = run_one(0.5)
    assert (house.artifacts / done).is_dir()
    address = f"/v1/experiments/{made['id']}"
    refused = api.delete(address)
    assert refused.status_code == 409
    assert refused.json()["error"]["message"].startswith("3 jobs have not ended in experiment")
    assert (house.artifacts / done).is_dir()
    api.post(f"{address}/cancel")
    response = api.delete(address)
    assert (response.status_code, response.content) == (204, b"")
    assert not (house.artifacts / done).exists()
    assert api.get(address).status_code == 404
    assert {api.get(f"/v1/jobs/{job['id']}").status_code for job in made["jobs"]} == {404}


def test_a_retried_job_takes_its_place_in_the_table(api, begin, run_one, look):
    made = begin(seeds=[0], variants=make_one())
    failed = run_one(0.25, status=Status.FAILED)
    now = look(made)
    assert (now["status"], now["table"][0]["failed"], now["table"][0]["n"]) == ("failed", 1, 0)
    retried = api.post(f"/v1/jobs/{failed}/retry").json()
    assert (retried["experiment"], retried["variant"], retried["parent"]) == (made["id"], "joint", failed)
    assert run_one(0.75) == retried["id"]
    now = look(made)
    assert (now["status"], [job["id"] for job in now["jobs"]]) == ("succeeded", [retried["id"]])
    assert now["table"][0]["values"] == {"0": 0.75}
    assert len(api.get("/v1/jobs", params={"experiment": made["id"]}).json()["data"]) == 2
    assert now["answer"] == (
        "joint has a mean val_accuracy of 0.75 over 1 seed; there is no other variant to compare it with"
    )


def test_a_job_that_is_deleted_leaves_its_cell_empty(api, begin, run_one, look):
    made = begin(seeds=[0], variants=make_one())
    job = run_one(0.25)
    assert api.delete(f"/v1/jobs/{job}").status_code == 204
    now = look(made)
    assert (now["jobs"], now["table"][0]["values"], now["status"]) == ([], {"0": None}, "cancelled")
    assert api.delete(f"/v1/experiments/{made['id']}").status_code == 204


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel")])
def test_an_unknown_experiment_is_404(api, method, path):
    response = api.request(method, f"/v1/experiments/exp_0{path}")
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "there is no experiment exp_0"


def test_the_largest_experiment_is_stored_and_shown_in_time(api, make_experiment):
    patches = [{"recipe": {"name": "joint", "epochs": number + 1}} for number in range(20)]
    variants = [{"name": f"v{number}", "patch": patch} for number, patch in enumerate(patches)]
    response = api.post("/v1/experiments", json=make_experiment(variants=variants, seeds=list(range(50))))
    made = response.json()
    assert response.elapsed.total_seconds() < 15
    assert (len(made["jobs"]), len(made["comparisons"])) == (1000, 190)
    look = api.get(f"/v1/experiments/{made['id']}")
    assert look.elapsed.total_seconds() < 2
    address = f"/v1/experiments/{made['id']}"
    assert api.post(f"{address}/cancel").json()["progress"]["cancelled"] == 1000
    assert api.delete(address).status_code == 204


def make_one():
    return [{"name": "joint", "patch": {"recipe": {"name": "joint", "epochs": 2}}}]


def refused(api, body):
    response = api.post("/v1/experiments", json=body)
    return response.status_code, response.json()["error"]


def test_losses_of_different_objectives_are_not_compared(api, make_experiment):
    focal = {"name": "focal", "patch": {"objective": {"name": "focal"}}}
    binary = {"name": "binary", "patch": {"objective": {"name": "binary_cross_entropy"}}}
    body = make_experiment(metric="val_loss")
    body["spec"]["recipe"] = {"name": "joint"}
    plain = {"name": "plain", "patch": {}}
    assert api.post("/v1/experiments", json=body | {"variants": [plain, focal]}).status_code == 201
    status, error = refused(api, body | {"variants": [plain, binary]})
    assert (status, error["param"], error["code"]) == (422, "variants.1.patch.objective", "other_loss")
    assert "losses of different objectives cannot be compared" in error["message"]


def test_what_only_a_look_at_the_data_tells_is_said_before_a_job_is_stored(api, make_experiment):
    body = make_experiment()
    body["spec"]["dataset"] = {"path": "one_class"}
    status, error = refused(api, body)
    assert (status, error["code"], len(error["details"])) == (422, "dataset_invalid", 1)


def test_a_body_that_is_nested_too_deeply_is_refused(api, make_experiment):
    nested: Any = 0
    for _ in range(500):
        nested = {"a": nested}
    body = make_experiment()
    body["variants"][0]["patch"] = {"metadata": nested}
    status, error = refused(api, body)
    assert (status, error["code"]) == (400, "not_json")
    assert "nested too deeply" in error["message"]
