"""A branch from a checkpoint, by the page."""

from playwright.sync_api import expect


def test_branch_starts_from_a_checkpoint_and_shows_where_it_comes_from(site, done, open_page, faults):
    faults.allowed += ["422"]
    page = open_page(f"{site.url}/jobs/{done['id']}")
    page.get_by_role("button", name="Branch").click()
    dialog = page.get_by_role("dialog", name="Branch from a checkpoint")
    checkpoints = site.http.get(f"/v1/jobs/{done['id']}/checkpoints").json()["data"]
    other = next(one["id"] for one in checkpoints if not one["best"])
    dialog.get_by_label("Checkpoint").select_option(other)
    patch = dialog.get_by_label("What is to be different")
    patch.fill('{"recipe": {"name": "joint", "epochs": 0}}')
    dialog.get_by_role("button", name="Start the branch").click()
    expect(dialog.get_by_role("alert")).to_contain_text("epochs")
    patch.fill('{"recipe": {"name": "joint", "epochs": 1}}')
    dialog.get_by_role("button", name="Start the branch").click()
    expect(page.get_by_text("Branched from")).to_be_visible()
    branch = page.url.rsplit("/", 1)[1]
    made = site.job(branch)
    assert (made["parent"], made["branched_from"]) == (done["id"], other)
    assert site.ended(branch)["status"] == "succeeded"


def test_job_is_deleted_after_it_was_asked_for(site, open_page):
    job = site.ended(site.submit(name="to be deleted"))
    page = open_page(f"{site.url}/jobs/{job['id']}")
    asked: list[str] = []

    def refuse(dialog):
        asked.append(dialog.message)
        dialog.dismiss()

    page.once("dialog", refuse)
    page.get_by_role("button", name="Delete").click()
    assert asked == ["Delete this job with its checkpoints? This cannot be undone."]
    assert site.http.get(f"/v1/jobs/{job['id']}").status_code == 200
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert site.http.get(f"/v1/jobs/{job['id']}").status_code == 404
