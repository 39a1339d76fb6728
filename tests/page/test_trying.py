"""Trying a model on a photograph."""

import base64

from playwright.sync_api import expect

DROP = """
([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "image/png" }));
  const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  document.querySelector(".drop").dispatchEvent(drop);
}
"""


def _drop(page, name, content):
    page.locator(".drop").wait_for()
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def test_dropped_photograph_is_answered_as_the_api_answers(site, done, open_page):
    file = next((site.house.data / "shapes" / "val" / "circle").iterdir())
    content = file.read_bytes()
    page = open_page(f"{site.url}/jobs/{done['id']}/try")
    _drop(page, file.name, content)
    expect(page.locator(".answer")).to_be_visible(timeout=60_000)
    asked = site.http.post(
        f"/v1/jobs/{done['id']}/predict", content=content, headers={"Content-Type": "image/png"}
    )
    classes = asked.json()["data"][0]["classes"]
    best = classes[0]
    expect(page.locator(".answer")).to_have_text(f"{best['class']}, {100 * best['probability']:.1f} %")
    shown = [f"{100 * one['probability']:.1f} %" for one in classes]
    assert len(shown) == 3
    expect(page.locator(".tried .bars .num")).to_have_text(shown)


def test_dropped_file_that_is_no_image_is_said_to_be_none(site, done, open_page, faults):
    faults.allowed += ["422", "blob:"]
    page = open_page(f"{site.url}/jobs/{done['id']}/try")
    _drop(page, "notes.png", b"no image at all")
    expect(page.locator(".notice.error")).to_contain_text("image", timeout=60_000)
