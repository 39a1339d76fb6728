"""What the real server predicts with networks that a real worker has trained."""

import io
import struct
import zlib

import pytest
import torch
from PIL import Image

from finetune import backbones
from finetune.data.decoding import decode
from finetune.trained import open_model


@pytest.mark.parametrize("kind", ["classes", "labels", "embedding"])
def test_answers_are_the_checkpoints_own(thaw, http, predict, kind, tmp_path, monkeypatch, pictures):
    monkeypatch.syspath_prepend(thaw.root)
    checkpoint = tmp_path / "best.safetensors"
    job = thaw.jobs[kind]
    checkpoint.write_bytes(http.get(f"/v1/jobs/{job}/checkpoints/best/download").content)
    model = open_model(checkpoint, backbones.load(["tiny_net:backbone"]))
    images = []
    for index, content in enumerate(pictures):
        (tmp_path / f"{index}.png").write_bytes(content)
        images.append(model.preprocessing.centre(decode(tmp_path / f"{index}.png")))
    expected = model.answers(torch.stack(images))

    answer = predict(*pictures, job=kind).json()
    assert (answer["object"], answer["job"], answer["kind"]) == ("list", job, kind)
    assert answer["backbone"] == "tiny_net"
    assert set(answer["seconds"]) == {"decode", "model"}
    assert [item["file"] for item in answer["data"]] == [f"{index}.png" for index in range(5)]
    assert [item["index"] for item in answer["data"]] == [*range(5)]
    for item, row in zip(answer["data"], expected.tolist(), strict=True):
        assert item["object"] == "prediction"
        if kind == "embedding":
            assert item["embedding"] == pytest.approx(row, abs=1e-5)
            assert (item["classes"], item["labels"]) == (None, None)
            continue
        assert item["embedding"] is None
        by_class = {found["class"]: found["probability"] for found in item["classes"]}
        assert [by_class[name] for name in model.classes] == pytest.approx(row, abs=1e-5)
        assert list(by_class.values()) == sorted(by_class.values(), reverse=True)
        if kind == "labels":
            reached = [name for name in by_class if by_class[name] >= model.thresholds[name]]
            assert item["labels"] == reached
        else:
            assert item["labels"] is None


def test_an_image_is_answered_alike_however_it_is_sent(predict, pictures):
    in_a_form = predict(*pictures).json()["data"]
    for content, sent in zip(pictures, in_a_form, strict=True):
        for form in ("image/png", "application/octet-stream", "application/x-www-form-urlencoded", "image/x"):
            (alone,) = predict(content, headers={"Content-Type": form}).json()["data"]
            assert (alone["index"], alone["file"]) == (0, None)
            assert [found["class"] for found in alone["classes"]] == [c["class"] for c in sent["classes"]]
            assert alone["classes"][0]["probability"] == pytest.approx(sent["classes"][0]["probability"])


def test_top_says_how_many_classes_are_listed(predict, pictures):
    full = predict(pictures[0]).json()["data"][0]["classes"]
    assert len(full) == 3
    assert predict(pictures[0], top=2).json()["data"][0]["classes"] == full[:2]
    for top in ("0", "-1", "x", "1.5", "100001", "9" * 5000):
        assert predict(pictures[0], top=top).json()["error"]["param"] == "top"


def test_checkpoints_are_named_as_in_a_download(thaw, http, predict, pictures):
    first, last = http.get(f"/v1/jobs/{thaw.jobs['classes']}/checkpoints").json()["data"]
    by_id = [predict(pictures[0], checkpoint=one["id"]).json() for one in (first, last)]
    assert [answer["checkpoint"] for answer in by_id] == [first["id"], last["id"]]
    assert by_id[0]["data"] != by_id[1]["data"]
    assert predict(pictures[0], checkpoint="last").json()["data"] == by_id[1]["data"]
    best = first if first["best"] else last
    assert predict(pictures[0]).json()["checkpoint"] == best["id"]


def test_what_is_not_there_is_said(thaw, http, predict, pictures, fails):
    fails(predict(pictures[0], job="job_0"), 404, "not_found", "job_0")
    assert fails(predict(pictures[0], checkpoint="x" * 500), 404, "not_found")["param"] == "checkpoint"
    queued = thaw.submit()
    fails(predict(pictures[0], job=queued), 404, "not_found", "no checkpoint 'best' yet: it is queued")
    http.post(f"/v1/jobs/{queued}/cancel")
    message = fails(predict(pictures[0], job=queued), 404, "not_found")["message"]
    assert message.endswith("has no checkpoint 'best'")


def test_a_deleted_job_is_gone_although_its_network_is_open(thaw, http, predict, pictures, fails):
    assert predict(pictures[0], job="doomed").status_code == 200
    assert http.delete(f"/v1/jobs/{thaw.jobs['doomed']}").status_code == 204
    fails(predict(pictures[0], job="doomed"), 404, "not_found", thaw.jobs["doomed"])


def test_a_checkpoint_whose_file_is_damaged_or_gone_is_refused(thaw, predict, pictures, fails):
    files = sorted((thaw.artifacts / thaw.jobs["spare"]).rglob("*.safetensors"))
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    fails(predict(pictures[0], job="spare"), 409, "weights_incompatible", "damaged", "another checkpoint")
    for file in files:
        file.unlink()
    error = fails(predict(pictures[0], job="spare"), 404, "not_found", "is gone")
    assert error["param"] == "checkpoint"


def test_every_damaged_image_is_named_and_the_predictor_goes_on(predict, pictures, photo, fails, predictor):
    pid = predictor()
    contents = [pictures[0], photo[: len(photo) // 2], pictures[1], b"", b"text"]
    names = ["good.png", 'häl"f.jpg', "fine.png", "empty.png", "text.jpg"]
    error = fails(predict(*contents, names=names), 422, "image_invalid", "images.1", "truncated")
    assert [detail["param"] for detail in error["details"]] == ["images.1", "images.3", "images.4"]
    assert error["details"][1]["message"].startswith("empty.png cannot be read as an image")
    assert "häl" in error["message"]
    fails(predict(b"text"), 422, "image_invalid", "images.0")
    assert predictor() == pid


def test_an_image_of_too_many_pixels_is_refused_with_its_size(predict, fails):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    fails(predict(bomb), 422, "image_invalid", "60000 × 60000 pixels; at most 100,000,000")


def test_images_that_are_large_together_are_refused_as_one(predict, fails):
    image = io.BytesIO()
    Image.new("L", (8000, 8000)).save(image, "PNG")
    fails(predict(image.getvalue(), image.getvalue()), 422, "image_invalid", "128,000,000 pixels together")


def test_a_network_that_fails_is_said_without_its_words_and_answers_again(thaw, predict, pictures, fails):
    (thaw.root / "broken").touch()
    fails(predict(pictures[0], job="broken"), 409, "network_failed", "its network raises RuntimeError")
    (thaw.root / "broken").unlink()
    assert predict(pictures[0], job="broken").status_code == 200
    assert "cannot go on with" in thaw.log("server")
