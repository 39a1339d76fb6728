"""Jobs that start from a checkpoint of another one, in whatever state that is."""

import json

import pytest


@pytest.fixture(scope="module")
def parent(client, make_spec, ended):
    """A job of three epochs of the head and four of everything, all of whose checkpoints are there."""
    job = ended(client, client.submit(make_spec(checkpoints={"keep_last": 10})).id)
    assert job.status == "succeeded", job.error
    return job


def at_epoch(client, job, number):
    (found,) = [one for one in client.checkpoints(job.id) if one.global_epoch == number]
    return found


def head_at(make_spec, lr):
    stage = make_spec()["stages"][0]
    return {"stages": [{**stage, "epochs": 1, "lr": {"schedule": {"name": "constant", "lr": lr}}}]}


@pytest.mark.promise("A branch starts from any checkpoint with its weights, its head and a plan of its own")
@pytest.mark.parametrize("number", [1, 3, 5])
def test_branch_begins_with_the_very_weights_of_its_checkpoint(
    client, make_spec, parent, ended, tmp_path, read_weights, number
):
    start = at_epoch(client, parent, number)
    job = ended(client, client.branch(parent.id, head_at(make_spec, 0.0), start.id).id)
    assert job.status == "succeeded", job.error
    assert (job.parent, job.branched_from) == (parent.id, start.id)
    (prepared,) = [event for event in client.events(job.id) if event.type == "job.prepared"]
    assert prepared.data["head"]["action"] == "kept"
    assert job.best.value == start.value  # nothing was trained: the rate is 0
    old = read_weights(client.download(parent.id, start.id, tmp_path / "old.safetensors"))
    new = read_weights(client.download(job.id, "last", tmp_path / "new.safetensors"))
    assert new.bytes == old.bytes


def test_branch_trains_everything_on_from_where_the_head_was(client, make_spec, parent, ended):
    start = at_epoch(client, parent, 3)
    stage = make_spec()["stages"][1] | {"epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.01}}}
    job = ended(client, client.branch(parent.id, {"stages": [stage], "batch_size": 6}, start.id).id)
    assert job.status == "succeeded", job.error
    records = client.metrics(job.id)
    assert [(record.stage, record.epoch, record.global_epoch) for record in records] == [
        ("all", 1, 1),
        ("all", 2, 2),
    ]
    assert job.resolved_spec["batch_size"] == 6
    assert client.report(job.id).reproduced.again == job.best.value


def test_branch_of_a_branch_remembers_both(client, make_spec, parent, ended):
    child = ended(client, client.branch(parent.id, head_at(make_spec, 0.01), "last").id)
    grandchild = ended(client, client.branch(child.id, head_at(make_spec, 0.01), "best").id)
    assert grandchild.status == "succeeded", grandchild.error
    assert (grandchild.parent, client.job(grandchild.parent).parent) == (child.id, parent.id)


@pytest.mark.promise("The checkpoint that a branch starts from is kept until the branch has ended")
def test_branch_of_a_running_job_finds_its_checkpoint_when_its_turn_comes(client, make_spec, ended, until):
    stage = make_spec()["stages"][1] | {"epochs": 12, "lr": {"schedule": {"name": "constant", "lr": 0.05}}}
    slow = {"name": "tiny_slow", "weights": None}
    running = client.submit(make_spec(backbone=slow, stages=[stage]))
    until(lambda: client.checkpoints(running.id), 60, "there is a checkpoint")
    branch = client.branch(running.id, head_at(make_spec, 0.0), "last")
    assert branch.status == "queued"
    after = ended(client, running.id)
    assert (after.status, len(client.metrics(running.id))) == ("succeeded", 12)
    made = ended(client, branch.id)
    assert made.status == "succeeded", made.error
    kept = [checkpoint.id for checkpoint in client.checkpoints(running.id)]
    assert branch.branched_from in kept


def test_command_branches_and_follows(thaw, client, command, parent, make_spec, tmp_path):
    path = tmp_path / "patch.json"
    path.write_text(json.dumps(head_at(make_spec, 0.01)))
    done = thaw.run(command, "branch", parent.id, path, "--checkpoint", "last", "--watch")
    assert done.returncode == 0, done.stderr
    made = client.job(done.stdout.splitlines()[0])
    assert (made.parent, made.status) == (parent.id, "succeeded")
    listed = thaw.run(command, "checkpoints", parent.id).stdout
    assert made.branched_from in listed
    assert made.branched_from in thaw.run(command, "status", made.id).stdout
