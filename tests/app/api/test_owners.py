"""Another owner's things are not there, whichever way one asks for them."""

import io
import re
import zipfile

import pytest

from app.main import create_app
from app.settings import Settings
from app.store.jobs import create_job
from tests.app.guarded import SPEC, experiment, routes_of

PROMISE = "Another owner's things are not there, by address or by any other name"
ID = re.compile(r"(job|exp)_[0-9a-f]{24}")
NOWHERE = {"job": "job_" + "0" * 24, "exp": "exp_" + "0" * 24}


@pytest.fixture
def zoo(holder, owner):
    return holder("submit", owner("zoo"))


@pytest.fixture
def farm(holder, owner):
    return holder("submit", owner("farm"))


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """Every method and path of the application with a job's or an experiment's id in it."""
    app = create_app(Settings(home_dir=tmp_path_factory.mktemp("home")))
    found = [
        (method, path)
        for path, methods in routes_of(app)
        for method in sorted(methods)
        if "{job_id}" in path or "{experiment_id}" in path
    ]
    assert len(found) > 15
    return found


@pytest.mark.promise(PROMISE)
def test_another_owners_job_is_as_absent_as_one_that_never_was(
    calls, zoo, farm, finished, tried, holder, owner
):
    job, experiment = finished(zoo), zoo.compare(0)
    before = _seen(zoo, job, experiment)
    for method, path in calls:
        address, nowhere = (
            path.replace("{job_id}", ids[0])
            .replace("{experiment_id}", ids[1])
            .replace("{checkpoint}", "best")
            for ids in ((job, experiment), tuple(NOWHERE.values()))
        )
        theirs, absent = farm.http.request(method, address), farm.http.request(method, nowhere)
        assert theirs.status_code == absent.status_code == 404, (method, path)
        assert ID.sub("ID", theirs.text) == ID.sub("ID", absent.text), (method, path)
        if method == "GET":
            for one in (zoo, holder("read", zoo.row.owner), holder("admin"), holder("admin", owner("ops"))):
                with one.http.stream("GET", address) as mine:
                    assert mine.status_code == 200, (method, path)
    assert _seen(zoo, job, experiment) == before
    tried(len(calls))


def _seen(holder, job, experiment):
    found = [
        holder.http.get(f"/v1/jobs/{job}").json(),
        holder.http.get(f"/v1/experiments/{experiment}").json(),
    ]
    return [*found, holder.http.get("/v1/jobs").json()]


@pytest.mark.promise(PROMISE)
def test_another_owners_stream_of_events_is_not_there(zoo, farm):
    job, stream = zoo.submit(), {"Accept": "text/event-stream"}
    assert farm.http.get(f"/v1/jobs/{job}/events", headers=stream).status_code == 404
    with zoo.http.stream("GET", f"/v1/jobs/{job}/events", headers=stream) as events:
        assert "job.created" in next(events.iter_text())


@pytest.mark.promise(PROMISE)
def test_lists_have_ones_own_alone(zoo, farm, holder):
    mine, theirs = zoo.submit(), farm.submit()
    experiment = farm.compare(0)
    assert [job["id"] for job in zoo.http.get("/v1/jobs").json()["data"]] == [mine]
    assert zoo.http.get("/v1/jobs", params={"experiment": experiment}).json()["data"] == []
    assert zoo.http.get("/v1/experiments").json()["data"] == []
    assert [one["id"] for one in farm.http.get("/v1/experiments").json()["data"]] == [experiment]
    everything = holder("admin").http.get("/v1/jobs", params={"limit": 100}).json()["data"]
    assert {mine, theirs} <= {job["id"] for job in everything}


@pytest.mark.promise(PROMISE)
def test_another_owners_job_is_no_place_in_a_list(zoo, farm):
    for path, theirs in (("/v1/jobs", farm.submit()), ("/v1/experiments", farm.compare(0))):
        unknown = zoo.http.get(path, params={"after": NOWHERE[theirs[:3]]})
        response = zoo.http.get(path, params={"after": theirs})
        assert response.status_code == unknown.status_code == 422
        assert ID.sub("ID", response.text) == ID.sub("ID", unknown.text)


@pytest.mark.promise(PROMISE)
def test_another_owners_checkpoint_is_no_weights_to_start_from(zoo, farm, finished, guarded):
    def sent(job):
        return {"backbone": {"name": "tiny_net", "weights": {"job": job, "checkpoint": "best"}}}

    job = finished(zoo)
    spec = {"dataset": {"path": "shapes"}, "recipe": {"name": "joint", "epochs": 2}}
    variants = [{"name": "a", "patch": {}}, {"name": "b", "patch": {"batch_size": 4}}]
    for path, body in (
        ("/v1/jobs", lambda job: spec | sent(job)),
        ("/v1/jobs/plan", lambda job: spec | sent(job)),
        ("/v1/jobs/find-lr", lambda job: spec | sent(job)),
        ("/v1/experiments", lambda job: {"spec": spec | sent(job), "variants": variants, "seeds": [0]}),
    ):
        theirs, absent = (farm.http.post(path, json=body(one)) for one in (job, NOWHERE["job"]))
        assert theirs.status_code == absent.status_code == 422, (path, theirs.text)
        assert theirs.json()["error"]["code"] == "weights_not_found", path
        assert ID.sub("ID", theirs.text) == ID.sub("ID", absent.text), path
    assert zoo.http.post("/v1/jobs", json=spec | sent(job)).status_code == 201


def test_idempotency_keys_are_each_owners_own(zoo, farm):
    headers = {"Idempotency-Key": "the same"}
    for path, body, other in (
        ("/v1/jobs", SPEC, SPEC | {"seed": 1}),
        ("/v1/experiments", experiment(0), experiment(1)),
    ):
        mine = zoo.http.post(path, json=body, headers=headers).json()["id"]
        response = farm.http.post(path, json=other, headers=headers)
        assert response.status_code == 201
        assert response.json()["id"] != mine
        assert zoo.http.post(path, json=body, headers=headers).json()["id"] == mine
        assert zoo.http.post(path, json=other, headers=headers).status_code == 409


def test_what_an_admin_retries_stays_its_owners(zoo, holder, owner):
    job = zoo.submit()
    zoo.http.post(f"/v1/jobs/{job}/cancel")
    again = holder("admin", owner("ops")).http.post(f"/v1/jobs/{job}/retry").json()
    assert (again["owner"], again["parent"]) == (zoo.row.owner, job)
    assert zoo.http.get(f"/v1/jobs/{again['id']}").status_code == 200


def test_keys_without_an_owner_share_what_is_nobodys_and_admins_see_it(guarded, zoo, holder):
    job, _ = create_job(guarded.db, spec={}, resolved_spec={"dataset": {}})  # as there was before keys
    for one, status in ((holder("read"), 200), (holder("admin"), 200), (zoo, 404)):
        assert one.http.get(f"/v1/jobs/{job.id}/events").status_code == status
    mine = holder("submit").submit()
    assert holder("read").http.get(f"/v1/jobs/{mine}").json()["owner"] is None
    for one in (job.id, mine):
        holder("admin").http.post(f"/v1/jobs/{one}/cancel")


def _archive(size=10):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for split in ("train", "val"):
            for name in ("ants", "bees"):
                for number in range(2):
                    opened.writestr(f"{split}/{name}/{number}.png", bytes([number]) * size)
        opened.writestr("labels.csv", "path,label\ntrain/ants/0.png,ants\n")
    return content.getvalue()


@pytest.fixture
def upload(owner):
    """Uploads a dataset with a name that no other test has."""

    def send(holder, name="birds", **params):
        return holder.http.put(f"/v1/datasets/{owner(name)}", content=_archive(), params=params)

    return send


@pytest.mark.promise(PROMISE)
def test_another_owners_dataset_is_not_there(zoo, farm, upload, owner, guarded, holder):
    name = owner("birds")
    assert upload(zoo).status_code == 201
    (guarded.data / owner("alias")).symlink_to(guarded.data / name)
    hidden = guarded.data / f".upload-{owner('other')}"
    hidden.mkdir()
    names = [row["name"] for row in farm.http.get("/v1/datasets").json()["data"]]
    assert "shapes" in names
    assert not [one for one in names if owner("birds") in one or owner("alias") in one]
    spec = {"backbone": {"name": "tiny_net", "weights": None}, "recipe": {"name": "joint"}}
    for path in (name, f"./{name}", f"{name}/labels.csv", owner("alias"), hidden.name, name[:-1], "x"):
        shown = farm.http.get(f"/v1/datasets/{path}")
        assert shown.status_code == 404, path
        for call in ("/v1/jobs/plan", "/v1/jobs"):
            refused = farm.http.post(call, json=spec | {"dataset": {"path": path}})
            assert refused.status_code == 422, path
            assert [found["code"] for found in refused.json()["error"]["details"]] == ["dataset_not_found"]
            said = [shown.json()["error"]["message"], refused.json()["error"]["details"][0]["message"]]
            for sentence, asked in zip(said, (path.removeprefix("./"), path), strict=True):
                assert sentence.startswith(f"there is no dataset '{asked}' below the data root; ")
                assert name not in sentence.replace(f"'{asked}'", ""), "it is among those that are close"
    for one in (zoo, holder("read", zoo.row.owner), holder("admin")):
        assert one.http.get(f"/v1/datasets/{name}").status_code == 200
        assert name in [row["name"] for row in one.http.get("/v1/datasets").json()["data"]]


@pytest.mark.promise(PROMISE)
def test_a_dataset_is_replaced_by_its_owner_alone(zoo, farm, upload, holder, guarded, owner):
    assert upload(zoo).status_code == 201
    assert upload(zoo).status_code == 409
    for params in ({}, {"replace": "true"}):
        refused = upload(farm, **params)
        assert refused.status_code == 409
        assert refused.json()["error"]["message"] == f"the name {owner('birds')!r} is taken: take another one"
    assert upload(zoo, replace="true").status_code == 200
    assert upload(holder("admin"), replace="true").status_code == 200
    assert upload(zoo, replace="true").status_code == 200  # it stayed the owner's
    assert list(guarded.data.glob(".upload-*-birds*")) == []


def test_the_operators_datasets_are_for_all_and_no_owner_replaces_them(zoo, farm, upload, holder, owner):
    assert upload(holder("admin"), "fish").status_code == 201
    for one in (zoo, farm, holder("read")):
        assert one.http.get(f"/v1/datasets/{owner('fish')}").status_code == 200
        assert one.http.get("/v1/datasets/shapes").status_code == 200
    for name in ("fish", None):
        path = f"/v1/datasets/{owner(name) if name else 'shapes'}"
        assert zoo.http.put(path, content=_archive(), params={"replace": "true"}).status_code == 409


def test_an_upload_that_fails_at_the_end_leaves_whose_the_dataset_was(zoo, upload, owner, guarded, holder):
    assert upload(zoo).status_code == 201
    broken = zoo.http.put(
        f"/v1/datasets/{owner('birds')}", content=_archive()[:-30], params={"replace": "true"}
    )
    assert broken.status_code == 422
    assert zoo.http.get(f"/v1/datasets/{owner('birds')}").status_code == 200
    assert holder("submit", owner("farm")).http.get(f"/v1/datasets/{owner('birds')}").status_code == 404
