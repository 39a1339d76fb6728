"""`thaw predict` and curl's ways of sending, of jobs that have just been trained."""

import json
import shutil
import subprocess

import pytest


@pytest.fixture(scope="module")
def jobs(client, make_spec, ended):
    """A job for each kind of answer, succeeded."""
    triplet = {"name": "triplet", "classes_per_batch": 3, "images_per_class": 2}
    embedding = make_spec(objective=triplet, recipe={"name": "joint", "epochs": 2})
    del embedding["stages"]
    specs = {
        "classes": make_spec(),
        "labels": make_spec(objective={"name": "binary_cross_entropy"}),
        "embedding": embedding,
    }
    submitted = {kind: client.submit(spec).id for kind, spec in specs.items()}
    for job in submitted.values():
        found = ended(client, job)
        assert found.status == "succeeded", found.error
    return submitted


def images(thaw, count=3):
    return sorted((thaw.data / "shapes" / "val").rglob("*.png"))[:count]


def test_the_command_answers_for_each_file_and_says_which_it_could_not_read(thaw, command, jobs):
    (thaw.root / "text.jpg").write_text("this is no image")
    good = images(thaw)
    done = thaw.run(
        command, "predict", jobs["classes"], good[0], "text.jpg", *good[1:], "absent.png", "--top", 2
    )
    assert done.returncode == 1
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["file", "class", "probability"]
    assert [row.split()[0] for row in rows] == [str(file) for file in good for _ in range(2)]
    assert {row.split()[1] for row in rows} <= {"circle", "square", "triangle"}
    problems = done.stderr.splitlines()
    assert problems[0].startswith("thaw: text.jpg: text.jpg cannot be read as an image")
    assert problems[1] == "thaw: absent.png: No such file or directory"
    assert len(problems) == 2


@pytest.mark.parametrize("kind", ["classes", "labels", "embedding"])
def test_json_holds_what_the_network_gives(thaw, command, jobs, kind):
    done = thaw.run(command, "predict", jobs[kind], *images(thaw), "--json", "--checkpoint", "last")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert [one["file"] for one in found] == [str(file) for file in images(thaw)]
    for one in found:
        assert (one["classes"] is None) == (kind == "embedding")
        assert (one["labels"] is None) == (kind != "labels")
        assert (one["embedding"] is None) == (kind != "embedding")
    assert thaw.run(command, "predict", jobs[kind], *images(thaw)).returncode == 0


def test_more_files_than_a_request_may_have_are_all_answered(thaw, client, command, jobs):
    many = images(thaw, 18) * 4
    assert len(many) > 64
    done = thaw.run(command, "predict", jobs["classes"], *many, "--json")
    found = json.loads(done.stdout)
    assert [(one["index"], one["file"]) for one in found] == [(n, str(file)) for n, file in enumerate(many)]
    (alone,) = client.predict(jobs["classes"], [many[50]]).data
    assert [c["class"] for c in found[50]["classes"]] == [c.name for c in alone.classes]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_sends_one_image_as_it_is_and_several_in_a_form(thaw, jobs):
    address = f"{thaw.url}/v1/jobs/{jobs['classes']}/predict"

    def curl(*options):
        done = subprocess.run(["curl", "-s", *options], capture_output=True, check=True, timeout=60)
        return json.loads(done.stdout)["data"]

    one, two = images(thaw, 2)
    in_a_form = curl("-F", f"images=@{one}", "-F", f"images=@{two}", f"{address}?top=1")
    assert [item["file"] for item in in_a_form] == [one.name, two.name]
    for options in ((), ("-H", "Content-Type: image/png")):
        (alone,) = curl(*options, "--data-binary", f"@{one}", f"{address}?top=1")
        assert alone["classes"][0]["class"] == in_a_form[0]["classes"][0]["class"]
