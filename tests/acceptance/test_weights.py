"""Jobs that start from an earlier job's checkpoint, or from a file."""

import pytest


@pytest.fixture(scope="module")
def first(client, make_spec, ended):
    job = ended(client, client.submit(make_spec()).id)
    assert job.status == "succeeded", job.error
    return job


def second_spec(make_spec, first, **changes):
    backbone = {"name": "tiny_net", "weights": {"job": first.id, "checkpoint": "best"}}
    return make_spec(**{"backbone": backbone, **changes})


def head_only(make_spec, lr):
    stage = make_spec()["stages"][0]
    return [{**stage, "epochs": 1, "lr": {"schedule": {"name": "constant", "lr": lr}}}]


def prepared(client, job):
    (event,) = [event for event in client.events(job.id) if event.type == "job.prepared"]
    return event.data["head"]


def test_head_is_kept_for_the_same_classes(client, make_spec, first, ended, tmp_path, read_weights):
    spec = second_spec(make_spec, first, stages=head_only(make_spec, 0.0))
    assert client.plan(spec).head.action == "kept"
    job = ended(client, client.submit(spec).id)
    assert (job.status, prepared(client, job)["action"]) == ("succeeded", "kept")
    assert job.best.value == first.best.value  # nothing was trained: the rate is 0
    old = read_weights(client.download(first.id, "best", tmp_path / "old.safetensors"))
    new = read_weights(client.download(job.id, "last", tmp_path / "new.safetensors"))
    assert new.bytes == old.bytes


def test_head_is_replaced_for_other_classes(client, make_spec, first, ended, tmp_path, read_weights):
    spec = second_spec(make_spec, first, dataset={"path": "renamed"}, stages=head_only(make_spec, 0.1))
    plan = client.plan(spec)
    assert (plan.head.action, plan.head.classes) == ("replaced", 3)
    job = ended(client, client.submit(spec).id)
    assert (job.status, prepared(client, job)["action"]) == ("succeeded", "replaced")
    old = read_weights(client.download(first.id, "best", tmp_path / "old.safetensors")).bytes
    new = read_weights(client.download(job.id, "last", tmp_path / "new.safetensors")).bytes
    assert {name for name in new if new[name] != old[name]} == {"head.weight", "head.bias"}


def test_head_is_never_kept_where_the_spec_says_so(client, make_spec, first):
    assert client.plan(second_spec(make_spec, first, head={"keep": "never"})).head.action == "replaced"


def test_downloaded_checkpoint_is_a_weights_file(client, make_spec, first, thaw, ended):
    client.download(first.id, "best", thaw.weights / "shapes.safetensors")
    backbone = {"name": "tiny_net", "weights": {"file": "shapes.safetensors"}}
    spec = make_spec(backbone=backbone, stages=head_only(make_spec, 0.0))
    assert ended(client, client.submit(spec).id).best.value == first.best.value


def test_weights_of_another_network_are_incompatible(client, make_spec, first, ended):
    backbone = {"name": "tiny_wide", "weights": {"job": first.id}}
    job = ended(client, client.submit(make_spec(backbone=backbone)).id)
    assert job.status == "failed"
    assert (job.error.code, job.error.param) == ("weights_incompatible", "backbone.weights")
    assert "stem.0.weight as [12, 3, 3, 3] where the network has [16, 3, 3, 3]" in job.error.message
    assert "tiny_net" in job.error.message


def test_file_that_holds_no_tensors_is_incompatible(client, make_spec, thaw, ended):
    (thaw.weights / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    backbone = {"name": "tiny_net", "weights": {"file": "broken.safetensors"}}
    job = ended(client, client.submit(make_spec(backbone=backbone)).id)
    assert job.status == "failed"
    assert job.error.code == "weights_incompatible"
    assert "broken.safetensors" in job.error.message
    assert str(thaw.root) not in job.error.message


def test_checkpoint_of_a_deleted_job_is_not_found(client, make_spec, ended, until):
    stages = head_only(make_spec, 0.1)
    parent = ended(client, client.submit(make_spec(stages=stages)).id)
    blocker = client.submit(make_spec(backbone={"name": "tiny_slow", "weights": None}, priority=5))
    until(lambda: client.job(blocker.id).status == "running", 30, "the worker is busy")
    child = client.submit(second_spec(make_spec, parent, stages=stages))
    client.delete(parent.id)
    client.cancel(blocker.id)
    job = ended(client, child.id)
    assert (job.status, job.error.code) == ("failed", "weights_not_found")
