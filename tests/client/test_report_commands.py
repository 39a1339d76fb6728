"""`thaw report`: what it prints, the page that it writes, and the predictions that it fetches."""

import json
import re
from html.parser import HTMLParser

import pytest

SCRIPT = "<script>alert('x')</script>"


def class_row(name, precision, recall, f1, support, **more):
    return {"name": name, "precision": precision, "recall": recall, "f1": f1, "support": support, **more}


def common(kind, **fields):
    return {
        "object": "fine_tuning.job.report",
        "kind": kind,
        "job": "job_1",
        "objective": "cross_entropy",
        "checkpoint": {"stage": "head", "global_epoch": 2, "sha256": "ab" * 32},
        "dataset": {"name": "hymenoptera", "fingerprint": "12" * 16},
        "classes": ["ants", "bees"],
        "images": 153,
        "nonfinite": 0,
        "reproduced": {"metric": "val_accuracy", "stored": 0.9375, "again": 0.9375, "difference": 0.0},
        "calibration": None,
        "old_classes": None,
    } | fields


def one_label(**fields):
    bins = [
        {
            "low": n / 10,
            "high": (n + 1) / 10,
            "count": 0,
            "share": 0.0,
            "mean_confidence": None,
            "accuracy": None,
        }
        for n in range(10)
    ]
    bins[9] |= {"count": 153, "share": 1.0, "mean_confidence": 0.97, "accuracy": 0.9375}
    mistake = {"file": "val/ants/7.jpg", "label": "ants", "prediction": "bees"}
    report = common(
        "one_label",
        figures={"accuracy": 0.9375, "top_5_accuracy": None, "loss": 0.21, "macro_f1": 0.93},
        per_class=[
            class_row("ants", 0.9155, 0.9286, 0.922, 70),
            class_row("bees", 0.939, 0.9277, 0.9133, 83),
        ],
        confusion=[[65, 5], [6, 77]],
        calibration={"error": 0.0312, "count": 153, "bins": bins},
        mistake_count=11,
        mistakes=[mistake | {"probability": 0.9871, "probability_of_label": 0.0129}],
        old_classes={
            "images": 70,
            "before": 0.95,
            "after_among_old": 0.96,
            "after": 0.9,
            "per_class": [
                {"name": "ants", "support": 70, "before": 0.95, "after_among_old": 0.96, "after": 0.9}
                | {"change": -0.05}
            ],
        },
    )
    return report | fields


def several_labels():
    return common(
        "several_labels",
        objective="binary_cross_entropy",
        figures={"map": 0.8, "macro_f1": 0.7, "micro_f1": 0.71, "loss": 0.4},
        per_class=[
            class_row("ants", 0.5, 0.6, 0.55, 70, threshold=0.4, average_precision=None),
            class_row("bees", 0.9, 0.9, 0.9, 83, threshold=0.6, average_precision=0.85),
        ],
        confusion=[[[50, 33], [28, 42]], [[60, 10], [8, 75]]],
        mistake_count=79,
        mistakes=[{"file": "a.jpg", "label": "ants", "mistake": "missed", "probability": 0.01}],
    )


def embedding():
    mistake = {"file": "val/a.jpg", "label": "ants", "prediction": "bees", "neighbour": "val/b.jpg"}
    return common(
        "embedding",
        objective="triplet",
        figures={"accuracy": 0.9, "recall_at_1": 0.9, "variance": 0.000212},
        per_class=[class_row("ants", 0.9, 0.9, 0.9, 70), class_row("bees", 0.9, 0.9, 0.9, 83)],
        confusion=[[63, 7], [8, 75]],
        mistake_count=15,
        mistakes=[mistake | {"distance": 0.0625}],
    )


@pytest.fixture
def play(api, make_job, make_epoch):
    """Lets the server have a job with this report."""

    def serve(report, name="ants", epochs=3):
        api.on("GET", "/v1/jobs/job_1", make_job("succeeded", name=name, finished_at=1_700_000_100))
        records = [make_epoch(number) for number in range(1, epochs + 1)]
        records += [make_epoch(epochs + 1, stage="all", stage_index=1, lr={"head": 0.1, "rest": 0.0001})]
        api.on("GET", "/v1/jobs/job_1/metrics", api.page(*records))
        api.on("GET", "/v1/jobs/job_1/report", report)

    return serve


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def page(tmp_path):
    return (tmp_path / "report-job_1.html").read_text(encoding="utf-8")


def test_report_prints_figures_classes_confusions_calibration_mistakes_and_old_classes(thaw, play):
    play(one_label())
    result = thaw("report", "job_1")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    text = result.stdout
    assert text.startswith("best checkpoint: epoch 2, stage head; 153 validation images of hymenoptera\n")
    assert "val_accuracy 0.9375 was stored; loaded anew it gave 0.9375" in text
    assert ["accuracy", "0.9375"] in lines
    assert ["calibration", "error", "0.0312"] in lines
    assert "top 5" not in text
    classes = [
        line[0] for line in lines if len(line) == 5 and line[0] in ("ants", "bees") and line[4] in "7083"
    ]
    assert classes == ["bees", "ants"], "the lowest F1 comes first"
    assert ["bees", "ants", "6", "7.2%"] in lines
    assert ["0.9", "to", "1.0", "153", "100.0%", "0.9700", "0.9375"] in lines
    assert ["val/ants/7.jpg", "ants", "bees", "0.9871", "0.0129"] in lines
    assert ["all", "70", "0.9500", "0.9600", "0.9000", "-0.0500"] in lines
    assert lines[-1] == ["the", "page", "is", "report-job_1.html"]


def test_report_prints_several_labels_with_thresholds(thaw, play):
    play(several_labels())
    lines = [line.split() for line in thaw("report", "job_1").stdout.splitlines()]
    assert ["ants", "0.5000", "0.6000", "0.5500", "70", "-", "0.4000"] in lines
    assert ["a.jpg", "ants", "missed", "0.0100"] in lines
    assert ["Largest", "confusions"] not in lines
    assert ["Mistakes:", "10", "of", "79"] in lines


def test_report_prints_an_embeddings_neighbours(thaw, play):
    play(embedding())
    lines = [line.split() for line in thaw("report", "job_1").stdout.splitlines()]
    assert ["val/a.jpg", "ants", "bees", "0.0625", "val/b.jpg"] in lines
    assert ["variance", "0.000212"] in lines
    assert ["Calibration"] not in lines


def test_many_classes_are_cut_to_the_worst(thaw, play):
    rows = [class_row(f"class {n:03}", 0.5, 0.5, n / 100, 10) for n in range(90)]
    play(one_label(per_class=rows[::-1], classes=[row["name"] for row in rows], confusion=None))
    text = thaw("report", "job_1").stdout
    assert "Classes: 20 of 90" in text
    assert "class 019" in text
    assert "class 020" not in text


def test_names_cannot_steer_the_terminal(thaw, play):
    play(one_label(classes=["\x1b[31mants", "bees"]))
    assert "\x1b" not in thaw("report", "job_1").stdout


class Tags(HTMLParser):
    """Every tag, and whether each is closed."""

    VOID = frozenset({"meta", "br"})

    def __init__(self):
        super().__init__()
        self.seen, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def read_tags(text):
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert tags.open == []
    return tags.seen


@pytest.mark.parametrize("report", [one_label, several_labels, embedding], ids=lambda make: make.__name__)
def test_the_page_stands_alone_and_runs_nothing(thaw, play, tmp_path, report):
    play(report())
    assert thaw("report", "job_1").exit_code == 0
    text = page(tmp_path)
    tags = read_tags(text)
    names = {tag for tag, _ in tags}
    assert names & {"script", "link", "img", "iframe", "object", "form", "a"} == set()
    assert {"svg", "table"} <= names
    attributes = {name for _, given in tags for name in given}
    assert not attributes & {"src", "href", "xlink:href", "onload", "onclick"}
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    policy = next(given["content"] for tag, given in tags if tag == "meta" and "http-equiv" in given)
    assert policy.startswith("default-src 'none'")


def test_the_page_has_the_curves_with_stages_rates_and_the_best_epoch(thaw, play, tmp_path):
    play(one_label())
    thaw("report", "job_1")
    text = page(tmp_path)
    assert re.findall(r"<figcaption>(.*?)</figcaption>", text) == ["Loss", "Figures", "Learning rate"]
    assert "training, epoch 1: 0.5" in text
    assert "validation accuracy, epoch 4: 0.8125" in text
    assert "head, epoch 4: 0.1" in text
    assert "rest, epoch 4: 0.0001" in text
    assert text.count("<title>stage head</title>") == text.count("<title>stage all</title>") == 3
    assert text.count('class="best"') == 3


def test_the_page_has_the_matrix_the_diagram_and_the_tables(thaw, play, tmp_path):
    play(one_label())
    thaw("report", "job_1")
    text = page(tmp_path)
    assert "ants taken for bees: 5 (7.1%)" in text
    assert "bees taken for bees: 77 (92.8%)" in text
    assert "0.90 to 1.00: 93.8% of 153 right" in text
    assert "val/ants/7.jpg" in text
    assert "for 95.0% as the job began" in " ".join(text.split())
    assert text.count('class="bar"') == 1


def test_a_matrix_of_many_classes_is_cut_to_those_with_the_most_mistakes(thaw, play, tmp_path):
    count = 40
    matrix = [[0] * count for _ in range(count)]
    for n in range(count):
        matrix[n][n] = 50
    matrix[3][37], matrix[37][3] = 9, 8
    names = [f"class {n:02}" for n in range(count)]
    rows = [class_row(name, 0.5, 0.5, 0.5, 50) for name in names]
    play(one_label(classes=names, confusion=matrix, per_class=rows))
    thaw("report", "job_1")
    text = " ".join(page(tmp_path).split())
    assert text.count('scope="col"') == 30
    assert "class 03 taken for class 37: 9" in text
    assert "The 30 classes of 40 with the most mistakes are shown." in text


def test_names_on_the_page_are_text_and_no_markup(thaw, play, tmp_path):
    evil = one_label(classes=[SCRIPT, "bees"])
    evil["mistakes"][0]["file"] = evil["per_class"][0]["name"] = SCRIPT
    play(evil, name=SCRIPT)
    assert thaw("report", "job_1").exit_code == 0
    text = page(tmp_path)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_names_turn_no_letters_on_the_page(thaw, play, tmp_path):
    play(one_label(classes=["ants \u202esgnp.seeb", "bees\x1b"]), name="gpj.\u2067exe")
    assert thaw("report", "job_1").exit_code == 0
    text = page(tmp_path)
    assert not {"\u202e", "\u2067", "\x1b"} & set(text)
    assert "ants \ufffdsgnp.seeb" in text


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_short_job_has_a_page_too(thaw, play, tmp_path, epochs):
    play(one_label(), epochs=epochs)
    assert thaw("report", "job_1").exit_code == 0
    read_tags(page(tmp_path))


def test_the_page_goes_where_it_is_told(thaw, play, tmp_path):
    play(one_label())
    folder = tmp_path / "pages"
    folder.mkdir()
    for option, given, path in (
        ("--html", "own.html", tmp_path / "own.html"),
        ("-o", "pages", folder / "report-job_1.html"),
    ):
        result = thaw("report", "job_1", option, given)
        assert result.exit_code == 0
        assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    missing = thaw("report", "job_1", "--html", "no/such/folder.html")
    assert missing.exit_code == 1
    assert missing.stderr.strip() == "thaw: no/such/folder.html: No such file or directory"


def test_json_is_the_servers_answer_and_writes_no_page_unless_told(thaw, play, tmp_path):
    play(one_label())
    result = thaw("report", "job_1", "--json")
    assert json.loads(result.stdout) == one_label()
    assert list(tmp_path.iterdir()) == []
    result = thaw("report", "job_1", "--json", "--html", "page.html")
    assert json.loads(result.stdout) == one_label()
    assert (tmp_path / "page.html").exists()


def test_predictions_are_downloaded_whole(api, thaw, play, tmp_path):
    play(one_label())
    content = bytes(range(256)) * 50
    api.on("GET", "/v1/jobs/job_1/report/predictions", api.file(content, "job_1-predictions.parquet"))
    result = thaw("report", "job_1", "--predictions", "said.parquet")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "said.parquet").read_bytes() == content
    assert result.stdout.splitlines()[-1] == "the predictions are said.parquet"
    assert thaw("report", "job_1", "--predictions", ".").exit_code == 0
    assert (tmp_path / "job_1-predictions.parquet").read_bytes() == content


def test_a_job_without_a_report_says_why_in_one_line(api, thaw):
    why = "job job_1 has no report: it is running, and a report is made when all stages are done"
    api.on("GET", "/v1/jobs/job_1/report", api.refusal(404, why, code="no_report"))
    result = thaw("report", "job_1")
    assert result.exit_code == 1
    assert result.stderr == f"thaw: {why}\n"
    assert result.stdout == ""
