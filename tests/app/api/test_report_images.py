"""Leafing through a report's images, over HTTP, with predictions as the reports write them."""

from collections.abc import Iterator

import pytest
import torch

from finetune.data.naming import image_id
from finetune.report.embedding import Embedded
from finetune.report.one_label import OneLabel
from finetune.report.several_labels import SeveralLabels

CLASSES = ("ants", "bees", "wasps")
# label and logits of each image: d is wrong and sure, b and e are wrong, c is no number.
ONE = {
    "e.jpg": (0, [1.0, 1.5, 0.0]),
    "d.jpg": (0, [0.0, 6.0, 0.0]),
    "c.jpg": (1, [float("nan")] * 3),
    "b.jpg": (1, [2.0, 0.0, 0.0]),
    "a.jpg": (2, [0.0, 0.0, 4.0]),
}


def one_label():
    labels = torch.tensor([label for label, _ in ONE.values()])
    logits = torch.tensor([row for _, row in ONE.values()])
    return OneLabel.of(list(ONE), CLASSES, labels, logits, 0.5)


def several_labels():
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]])
    logits = torch.tensor([[3.0, 2.0, -3.0], [-4.0, 3.0, -3.0], [-3.0, -3.0, 3.0]])
    return SeveralLabels.of(
        ["x.jpg", "y.jpg", "z.jpg"], CLASSES, labels, logits, dict.fromkeys(CLASSES, 0.5), 0.1
    )


def embedding():
    points = torch.tensor([[0.0, 0], [0, 1], [5, 0], [5, 0.5]])
    return Embedded.of(["p.jpg", "q.jpg", "r.jpg", "s.jpg"], CLASSES, torch.tensor([0, 1, 2, 2]), points, 0.2)


@pytest.fixture
def leaf(api):
    """All rows of a list, leafing through it three ways, and the same each time."""

    def pages(address, params, limit) -> Iterator[dict[str, object]]:
        after: dict[str, str] = {}
        while True:
            response = api.get(f"{address}/images", params=params | after | {"limit": limit})
            assert response.status_code == 200, response.text
            page = response.json()
            yield from page["data"]
            if not page["has_more"]:
                return
            after = {"after": page["last_id"]}

    def every(address, **params):
        found = [list(pages(address, params, limit)) for limit in (1, 2, 100)]
        assert found[0] == found[1] == found[2]
        return found[0]

    return every


def names(rows):
    return "".join(row["file"][0] for row in rows)


def test_a_row_says_what_was_said_of_an_image_under_its_id(report, leaf):
    rows = {row["file"]: row for row in leaf(report(one_label()))}
    said = torch.tensor(ONE["d.jpg"][1]).softmax(0)
    assert rows["d.jpg"] == {
        "object": "report.image",
        "id": image_id("d.jpg"),
        "dataset": "shapes",
        "file": "d.jpg",
        "label": "ants",
        "prediction": "bees",
        "probability": pytest.approx(said[1].item(), abs=1e-6),
        "probability_of_label": pytest.approx(said[0].item(), abs=1e-6),
        "mistake": None,
        "neighbour": None,
        "neighbour_id": None,
        "distance": None,
    }
    assert (rows["c.jpg"]["probability"], rows["c.jpg"]["probability_of_label"]) == (None, None)


def test_rows_are_chosen_by_cell_by_mistake_and_by_suspicion(report, leaf):
    address = report(one_label())
    wrong = names(leaf(address, wrong=True))
    assert names(leaf(address)) == "abcde"
    assert wrong in ("bde", "bcde")  # what is no number is taken for any class
    assert names(leaf(address, label="ants")) == "de"
    assert names(leaf(address, label="ants", prediction="bees")) == "de"
    assert names(leaf(address, label="bees", prediction="wasps")) == ""
    assert names(leaf(address, suspect=0.9)) == "d"
    assert names(leaf(address, suspect=0.0)) == "dbe"
    assert names(leaf(address, sort="confidence")) == "dabec"
    assert names(leaf(address, sort="confidence", wrong=True)).startswith("dbe")


def test_several_labels_have_a_row_for_each_mistake(report, leaf):
    address = report(several_labels())
    rows = leaf(address, sort="confidence")
    told = [(row["file"], row["label"], row["mistake"], row["prediction"]) for row in rows]
    assert told == [("y.jpg", "ants", "missed", None), ("x.jpg", "bees", "given", None)]
    assert rows[0]["probability"] == pytest.approx(torch.sigmoid(torch.tensor(-4.0)).item(), abs=1e-6)
    assert names(leaf(address, suspect=0.95)) == "y"
    assert names(leaf(address, label="bees")) == "x"


def test_an_embeddings_rows_name_the_nearest_image(report, leaf):
    address = report(embedding())
    rows = leaf(address, wrong=True, sort="confidence")
    assert [(row["file"], row["label"], row["prediction"]) for row in rows] == [
        ("p.jpg", "ants", "bees"),
        ("q.jpg", "bees", "ants"),
    ]
    assert (rows[0]["neighbour"], rows[0]["neighbour_id"], rows[0]["distance"]) == (
        "q.jpg",
        image_id("q.jpg"),
        1.0,
    )
    assert names(leaf(address, sort="confidence"))[:2] == "rs"
    assert rows[0]["probability"] is None


def test_what_a_report_does_not_have_is_refused(api, report):
    one, several, embedded = report(one_label()), report(several_labels()), report(embedding())
    for address, params, code in (
        (one, {"label": "ant"}, "unknown_class"),
        (one, {"prediction": "x"}, "unknown_class"),
        (one, {"after": "img_0"}, "unknown_cursor"),
        (one, {"after": image_id("a.jpg"), "wrong": True}, "unknown_cursor"),
        (one, {"after": image_id("a.jpg") + ".2"}, "unknown_cursor"),
        (one, {"after": image_id("a.jpg") + "\x00"}, "unknown_cursor"),
        (one, {"suspect": 1.1}, "less_than_equal"),
        (one, {"sort": "label"}, "literal_error"),
        (several, {"prediction": "ants"}, "unfit_for_report"),
        (several, {"after": image_id("x.jpg")}, "unknown_cursor"),
        (several, {"after": image_id("x.jpg") + ".0"}, "unknown_cursor"),
        (embedded, {"suspect": 0.5}, "unfit_for_report"),
    ):
        response = api.get(f"{address}/images", params=params)
        assert (response.status_code, response.json()["error"]["code"]) == (422, code), params


def test_a_report_that_is_not_there_gone_or_damaged_is_not_found(api, report, hold, house):
    damaged = report(one_label(), b"PAR1 and no more")
    running = f"/v1/jobs/{hold().job_id}/report"
    gone = report(one_label())
    assert api.get(f"{gone}/images").status_code == 200  # and is remembered
    (house.artifacts / gone.split("/")[3] / "attempt-1" / "predictions.parquet").unlink()
    for address, words in ((damaged, "damaged"), (running, "it is running"), (gone, "is gone")):
        response = api.get(f"{address}/images")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "no_report")
        assert words in response.json()["error"]["message"]
    assert api.get("/v1/jobs/job_0/report/images").json()["error"]["code"] == "not_found"
