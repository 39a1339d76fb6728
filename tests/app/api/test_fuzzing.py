"""schemathesis over the OpenAPI page, with all its checks, on a server with real data in it."""

import re
import sys
from collections import Counter

import httpx
import pytest

EXAMPLES, LONG_EXAMPLES = 200, 500  # an operation

# Half of what is generated names what is there; the other half is anything.
CONFIG = """
base-url = "{url}"
workers = 2
seed = 1
max-stream-events = 3
request-timeout = 60
continue-on-failure = true
hooks = "{hooks}"

[warnings]
enabled = false

[generation]
max-examples = {examples}
deterministic = true
database = "none"

[dictionaries]
jobs = {{ values = {jobs} }}
doomed = {{ values = {doomed} }}
experiments = {{ values = {experiments} }}
checkpoints = {{ values = ["best", "last"] }}
datasets = {{ values = ["shapes", "absent"] }}
images = {{ values = {images} }}
backbones = {{ values = ["tiny_net"] }}

[parameters]
"path.job_id" = {{ dictionary = "jobs", probability = 0.5 }}
"path.experiment_id" = {{ dictionary = "experiments", probability = 0.5 }}
"path.checkpoint" = {{ dictionary = "checkpoints", probability = 0.7 }}
"path.image_id" = {{ dictionary = "images", probability = 0.5 }}
"query.job" = {{ dictionary = "jobs", probability = 0.5 }}
"query.dataset" = {{ dictionary = "datasets", probability = 0.7 }}
"path.name" = {{ dictionary = "datasets", probability = 0.5 }}
"body.dataset.path" = {{ dictionary = "datasets", probability = 0.7 }}
"body.backbone.name" = {{ dictionary = "backbones", probability = 0.7 }}

[[operations]]
include-method = "DELETE"
parameters = {{ "path.job_id" = {{ dictionary = "doomed", probability = 0.5 }} }}

# A spec has so many fields that their bounds alone, one by one, are 2,700 requests to each of these calls.
[[operations]]
include-path = ["/v1/jobs", "/v1/jobs/plan", "/v1/jobs/find-lr", "/v1/experiments"]
include-method = "POST"
phases.coverage.enabled = {every_bound}

# A report is made when its job has ended: until then it is not there, though the job is.
[[operations]]
include-path = ["/v1/jobs/{{job_id}}/report", "/v1/jobs/{{job_id}}/report/predictions"]
checks.ensure_resource_availability.enabled = false

# A spec may be as the page says and still name a module, a dataset or weights that are not there.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "413", "415", "422", "429", "503"]
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429"]
"""

# What schemathesis does not know by itself: an archive is sent as the bytes that it is.
HOOKS = """
import schemathesis


@schemathesis.serializer("application/zip")
def archive(context, value):
    return value if isinstance(value, bytes) else bytes(getattr(value, "data", str(value).encode()))
"""


@pytest.fixture(scope="module")
def filled(make_house, draw_shapes, until):
    """A house with a dataset, trained jobs, an experiment, and checkpoints, one of them exported."""
    house = make_house()
    draw_shapes(house.data / "shapes", train=4, val=2)
    house.serve()
    spec = {
        "dataset": {"path": "shapes"},
        "backbone": {"name": "tiny_net", "weights": None},
        "recipe": {"name": "joint", "epochs": 1},
        "precision": "fp32",
    }
    with httpx.Client(base_url=house.url, trust_env=False, timeout=120) as client:

        def submit(**changes):
            response = client.post("/v1/jobs", json=spec | changes)
            assert response.status_code == 201, response.text
            return response.json()["id"]

        variants = [{"name": "a", "patch": {}}, {"name": "b", "patch": {"batch_size": 16}}]
        body = {"spec": spec, "variants": variants, "seeds": [0]}
        trained = [submit(), submit(seed=1)]
        worker = house.work()
        for job in trained:
            until(
                lambda job=job: client.get(f"/v1/jobs/{job}").json()["status"] == "succeeded",
                120,
                "a job has succeeded",
            )
        worker.terminate()
        worker.wait(20)
        address = f"/v1/jobs/{trained[0]}/checkpoints/best/download"
        for kind in ("torch", "onnx"):
            assert client.get(address, params={"format": kind}).status_code == 200
        experiment = client.post("/v1/experiments", json=body)
        assert experiment.status_code == 201, experiment.text
        house.experiments = [experiment.json()["id"]]
        listed = client.get("/v1/images", params={"dataset": "shapes"})
        house.images = [image["id"] for image in listed.json()["data"]]
        house.jobs = [*trained, submit(name="waiting")]
        house.doomed = [submit(name="doomed") for _ in range(5)]
    return house


@pytest.fixture
def fuzz(filled):
    def run(examples, phases, every_bound):
        config, hooks = filled.root / "schemathesis.toml", filled.root / "archives.py"
        hooks.write_text(HOOKS)
        ids = {"jobs": filled.jobs, "doomed": filled.doomed, "experiments": filled.experiments}
        ids["images"] = filled.images
        bounds = "true" if every_bound else "false"
        values = {"url": filled.url, "hooks": hooks, "examples": examples, "every_bound": bounds}
        config.write_text(CONFIG.format(**values, **ids))
        command = (sys.executable, "-m", "schemathesis.cli", "--config-file", config, "--no-color", "run")
        return filled.run(*command, f"{filled.url}/openapi.json", "--phases", phases, timeout=3600)

    return run


def answered(house):
    """How often each call was answered, by method, route and the hundreds of the status."""
    text = httpx.get(f"{house.url}/metrics", trust_env=False).text
    row = r'thaw_http_requests_total\{method="(\w+)",route="([^"]+)",status="(\d)\d\d"\} ([\d.e+]+)'
    counts: Counter[tuple[str, str, str]] = Counter()
    for method, route, status, count in re.findall(row, text):
        counts[method, route.replace(":path", ""), status] += int(float(count))
    return counts


@pytest.mark.promise(
    "Whatever a client makes of the OpenAPI page, the answer is one that the page names, never a 5xx"
)
@pytest.mark.parametrize("phases", ["examples,coverage,fuzzing", "stateful"])
def test_every_answer_is_one_that_the_page_names(filled, fuzz, long, tried, phases):
    before = answered(filled)
    done = fuzz(LONG_EXAMPLES if long else EXAMPLES, phases, every_bound=long)
    counts = answered(filled) - before
    tried(sum(counts.values()))
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-3000:]
    assert not [row for row in counts if row[2] == "5"]
    if phases == "stateful":
        return
    page = httpx.get(f"{filled.url}/openapi.json", trust_env=False).json()
    for path, calls in page["paths"].items():
        for method in calls:
            own = {status: counts[method.upper(), path.replace(":path", ""), status] for status in "1234"}
            assert sum(own.values()) > 0, (method, path)
