import html
import re
from pathlib import Path

import pytest

from app.store.attempts import finish
from app.store.records import JobError
from app.store.states import Status
from finetune.export.lines import checkpoint_lines

ROOT = Path(__file__).parents[3]
SCRIPT = '<script>alert("x")</script>'


def test_loading_lines_on_the_page_are_those_of_the_documentation(api, hold, write_epoch):
    held = hold()
    write_epoch(held, 1)
    page = api.get(f"/jobs/{held.job_id}").text
    (shown,) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    documented, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "loading.md").read_text(), re.DOTALL)
    assert html.unescape(shown).strip() == documented.strip()
    compile(documented, "loading.md", "exec")


def test_name_of_a_job_is_text_and_no_markup(api, post):
    job = post(name=SCRIPT)
    for address in ("/", f"/jobs/{job['id']}"):
        response = api.get(address)
        assert response.status_code == 200
        assert "<script" not in response.text
        assert html.escape(SCRIPT, quote=False) in response.text.replace("&#34;", '"')


def test_error_of_a_job_is_text_and_no_markup(api, hold, store):
    held = hold()
    finish(store, held, Status.FAILED, SCRIPT, error=JobError("internal", SCRIPT))
    page = api.get(f"/jobs/{held.job_id}").text
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("which", ["index", "job"])
def test_pages_may_load_and_run_nothing(api, post, which):
    response = api.get("/" if which == "index" else f"/jobs/{post()['id']}")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert response.headers["Content-Type"].startswith("text/html")
    assert not re.search(r"""(src|href)=["'](https?:)?//""", response.text)


def test_page_of_a_branch_leads_to_where_it_comes_from(api, hold, write_epoch):
    held = hold()
    checkpoint = write_epoch(held, 1)
    patch = {"recipe": {"name": "joint", "epochs": 1}}
    job = api.post(f"/v1/jobs/{held.job_id}/branch", json={"patch": patch}).json()["id"]
    page = api.get(f"/jobs/{job}").text
    assert f'href="/jobs/{held.job_id}"' in page
    assert checkpoint.id in page
    api.post(f"/v1/jobs/{job}/cancel")


def test_page_of_a_job_shows_its_epochs_and_downloads(api, hold, store, write_epoch):
    held = hold(name="ants & bees")
    checkpoint = write_epoch(held, 1)
    write_epoch(held, 2, best=False, train={"loss": None, "accuracy": 0.5}, nonfinite=True)
    running = api.get(f"/jobs/{held.job_id}").text
    assert "ants &amp; bees" in running
    assert "0.7500" in running
    assert "not finite" in running
    assert 'http-equiv="refresh"' in running
    link = f"/v1/jobs/{held.job_id}/checkpoints/{checkpoint.id}/download"
    assert f'href="{link}"' in running
    assert api.get(link).content == b"weights"
    finish(store, held, Status.SUCCEEDED, "all stages are done")
    assert 'http-equiv="refresh"' not in api.get(f"/jobs/{held.job_id}").text


def test_job_without_epochs_shows_no_loading_lines(api, post):
    assert "<pre>" not in api.get(f"/jobs/{post()['id']}").text


def test_page_of_an_unknown_job_is_not_found(api):
    assert api.get("/jobs/job_none").status_code == 404


def shown_lines(page):
    (shown,) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    return html.unescape(shown).strip()


def documented(tag="python"):
    return re.findall(rf"```{tag}\n(.*?)```", (ROOT / "docs" / "loading.md").read_text(), re.DOTALL)


def test_loading_lines_are_those_of_what_the_job_trains():
    classify, labels, embed = documented()
    with_timm, embed_with_timm = documented("py")

    def lines(objective, backbone="resnet18"):
        return checkpoint_lines({"objective": {"name": objective}, "backbone": {"name": backbone}}).strip()

    assert lines("focal") == classify.strip()
    assert lines("triplet") == embed.strip()
    *_, answer = lines("binary_cross_entropy").splitlines()
    assert answer == labels.splitlines()[-1]
    assert ".sigmoid()" in lines("binary_cross_entropy")
    assert "softmax" not in lines("binary_cross_entropy")
    assert with_timm in lines("focal", "timm/resnet18")
    assert embed_with_timm in lines("triplet", "timm/resnet18")
    for objective in ("focal", "triplet", "binary_cross_entropy"):
        assert "= get_model(" not in lines(objective, "timm/resnet18")
        for backbone in ("resnet18", "timm/resnet18"):
            compile(lines(objective, backbone), "lines", "exec")


def test_page_shows_the_figures_of_averages_and_of_other_objectives(api, hold, write_epoch):
    held = hold()
    figures = {"loss": 0.25, "recall@1": 0.875}
    write_epoch(held, 1, train={"loss": 0.5}, val=figures, val_ema={"loss": 0.125, "recall@1": 0.9375})
    page = api.get(f"/jobs/{held.job_id}").text
    for text in ("Train loss", "Val recall@1", "Val ema recall@1", "0.8750", "0.9375"):
        assert text in page


def test_page_of_a_range_test_shows_what_it_found(api, hold, store):
    held = hold()
    found = {"stage": "head", "curve": [], "suggestion": 0.00316, "reason": "a tenth of it"}
    finish(store, held, Status.SUCCEEDED, "all stages are done", result={"range_test": found})
    assert "A learning rate of 0.00316 for stage head:" in api.get(f"/jobs/{held.job_id}").text
