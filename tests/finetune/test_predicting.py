import hashlib
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from finetune import predicting
from finetune.backbones import Registry, backbone
from finetune.data.dataset import open_dataset
from finetune.data.decoding import decode
from finetune.data.preprocessing import Preprocessing
from finetune.errors import (
    DeviceUnusable,
    FinetuneError,
    ImageInvalid,
    NetworkFailed,
    OutOfMemory,
    SpecInvalid,
    WeightsIncompatible,
    WeightsNotFound,
)
from finetune.predicting import Predictor, open_predictor, prepare
from finetune.predictions import Question, Sent
from finetune.spec import JobSpec
from finetune.trained import open_model

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(resize=20, crop=16)


def stage(lr, epochs=2):
    return {"name": "all", "epochs": epochs, "lr": {"schedule": {"name": "constant", "lr": lr}}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir, registry, job):
    """A checkpoint's path and SHA-256, by what its network gives; two more classifiers by their seeds."""
    import finetune

    def train(name, **fields):
        spec = job(stage(0.05), **fields)
        folder = tmp_path_factory.mktemp(name)
        last = [
            event.checkpoint
            for event in finetune.train(spec, folder, data_dir=data_dir, registry=registry, device="cpu")
            if hasattr(event, "checkpoint")
        ][-1]
        return last.weights, last.sha256

    return {
        "classes": train("classes"),
        "labels": train("labels", objective={"name": "binary_cross_entropy"}),
        "embedding": train(
            "embedding",
            objective={
                "name": "triplet",
                "classes_per_batch": 3,
                "images_per_class": 2,
                "embedding_size": 5,
            },
        ),
        **{seed: train(f"seed{seed}", seed=seed) for seed in (1, 2)},
    }


@pytest.fixture
def predictor(registry):
    return Predictor(registry, CPU)


@pytest.fixture
def ask(predictor, trained):
    """Asks about contents of files."""

    def question(*contents, of="classes", **fields):
        path, sha256 = trained[of]
        return predictor.predict(Question(path, sha256, tuple(map(Sent, contents)), **fields))

    return question


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(mode="RGB", size=(30, 24)):
    pixels = np.random.RandomState(3).randint(0, 256, (size[1], size[0], 3), dtype="uint8")
    return Image.fromarray(pixels).convert(mode)


def png_header(width, height):
    """A PNG that claims a size and holds no pixel of it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture
def val_files(data_dir):
    dataset = open_dataset(data_dir, JobSpec.model_validate(SPEC).dataset, 0)
    return [image.path for image in dataset.val]


SPEC = {
    "dataset": {"path": "hues"},
    "backbone": {"name": "tiny", "weights": None},
    "recipe": {"name": "joint"},
}


@pytest.mark.parametrize("of", ["classes", "labels", "embedding"])
def test_the_answers_for_all_validation_images_are_the_trained_networks_own(
    ask, trained, registry, val_files, of
):
    model = open_model(trained[of][0], registry)
    images = torch.stack([model.preprocessing.centre(decode(path)) for path in val_files])
    expected = model.answers(images)
    answer = ask(*(path.read_bytes() for path in val_files), of=of)
    assert (answer.kind, answer.backbone, len(answer.predictions)) == (of, "tiny", len(val_files))
    for row, prediction in zip(expected, answer.predictions, strict=True):
        if of == "embedding":
            assert prediction.classes is None
            assert prediction.labels is None
            torch.testing.assert_close(torch.tensor(prediction.embedding), row)
            continue
        assert prediction.embedding is None
        by_class = dict(prediction.classes)
        torch.testing.assert_close(torch.tensor([by_class[name] for name in model.classes]), row)
        probabilities = [p for _, p in prediction.classes]
        assert probabilities == sorted(probabilities, reverse=True)
        if of == "labels":
            reached = [name for name, p in prediction.classes if p >= model.thresholds[name]]
            assert prediction.labels == tuple(reached)
        else:
            assert prediction.labels is None
            assert sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_labels_are_those_that_reach_their_thresholds(ask, val_files):
    answer = ask(*(path.read_bytes() for path in val_files), of="labels")
    counts = {len(prediction.labels) for prediction in answer.predictions}
    assert counts & {1, 2, 3}
    assert counts != {3}


def test_top_is_how_many_classes_are_listed_and_labels_are_not_cut(ask, val_files):
    content = val_files[0].read_bytes()
    full = ask(content).predictions[0].classes
    assert len(full) == 3
    for top in (1, 2):
        assert ask(content, top=top).predictions[0].classes == full[:top]
    assert ask(content, top=100_000).predictions[0].classes == full
    assert (
        ask(content, of="labels", top=1).predictions[0].labels
        == ask(content, of="labels").predictions[0].labels
    )


def test_more_images_than_pass_at_once_get_the_answers_that_each_gets_alone(ask, val_files, monkeypatch):
    monkeypatch.setattr(predicting, "BATCH", 4)
    contents = [path.read_bytes() for path in val_files]
    together = ask(*contents).predictions
    assert len(contents) > 2 * predicting.BATCH
    for content, prediction in zip(contents, together, strict=True):
        (alone,) = ask(content).predictions
        assert [name for name, _ in alone.classes] == [name for name, _ in prediction.classes]
        assert [p for _, p in alone.classes] == pytest.approx([p for _, p in prediction.classes], abs=1e-6)


def test_the_few_networks_asked_last_stay_open(registry, trained, monkeypatch):
    opened = []

    def counted(path, *arguments):
        opened.append(path)
        return open_model(path, *arguments)

    monkeypatch.setattr(predicting, "open_model", counted)
    predictor = Predictor(registry, CPU, most=2)
    content = saved(picture())
    for of in ("classes", 1, "classes", 2, "classes", 1):
        path, sha256 = trained[of]
        predictor.predict(Question(path, sha256, (Sent(content),)))
    # The third question and the fifth find theirs open; the second network made room for the third.
    assert opened == [trained[of][0] for of in ("classes", 1, 2, 1)]


def test_an_open_network_answers_without_its_file_and_another_one_is_gone(registry, trained, tmp_path):
    path, sha256 = trained["classes"]
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    predictor, content = Predictor(registry, CPU), Sent(saved(picture()))
    predictor.predict(Question(copy, sha256, (content,)))
    copy.unlink()
    predictor.predict(Question(copy, sha256, (content,)))
    with pytest.raises(WeightsNotFound, match=r"copy\.safetensors is gone"):
        Predictor(registry, CPU).predict(Question(copy, sha256, (content,)))


def test_a_checkpoint_whose_bytes_have_changed_is_not_used(predictor, trained, tmp_path):
    path, sha256 = trained["classes"]
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    with pytest.raises(WeightsIncompatible, match="SHA-256"):
        predictor.predict(Question(tmp_path / "damaged.safetensors", sha256, (Sent(saved(picture())),)))
    text, digest = tmp_path / "text.safetensors", hashlib.sha256(b"no tensors").hexdigest()
    text.write_bytes(b"no tensors")
    with pytest.raises(WeightsIncompatible):
        predictor.predict(Question(text, digest, (Sent(saved(picture())),)))


def test_a_checkpoint_of_a_backbone_that_is_not_registered_is_refused(trained):
    path, sha256 = trained["classes"]
    with pytest.raises(SpecInvalid, match="'tiny'"):
        Predictor(Registry(), CPU).predict(Question(path, sha256, (Sent(saved(picture())),)))


def test_every_image_that_cannot_be_read_is_named_with_its_reason(predictor, trained):
    good = saved(picture())
    photo = saved(picture(size=(300, 240)), "JPEG")
    images = (
        Sent(good, "good.png"),
        Sent(b"", "empty.png"),
        Sent(photo[: len(photo) // 2], "half.jpg"),
        Sent(b"hello", None),
        Sent(photo, "photo.jpg"),
    )
    path, sha256 = trained["classes"]
    with pytest.raises(ImageInvalid) as refused:
        predictor.predict(Question(path, sha256, images))
    params = [problem.param for problem in refused.value.problems]
    assert params == ["images.1", "images.2", "images.3"]
    messages = [problem.message for problem in refused.value.problems]
    assert messages[0].startswith("empty.png cannot be read as an image")
    assert "half.jpg" in messages[1]
    assert "truncated" in messages[1]
    assert messages[2].startswith("this cannot be read as an image: it is none; JPEG, PNG, WebP")
    assert not any("BytesIO" in message for message in messages)
    assert (refused.value.param, refused.value.message) == (params[0], messages[0])


@pytest.fixture
def as_in_its_process():
    """What the predictor's own process answers with."""
    return open_predictor((), "cpu")


@pytest.mark.usefixtures("as_in_its_process")
@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (10_000, 10_001), (2**31 - 1, 2**31 - 1)])
def test_an_image_with_too_many_pixels_is_refused_by_its_header_with_its_size_and_the_limit(width, height):
    with pytest.raises(ImageInvalid) as refused:
        prepare([Sent(png_header(width, height), "bomb.png")], PREPROCESSING)
    message = (
        f"bomb.png cannot be read as an image: it has {width} × {height} pixels; at most 100,000,000 are read"
    )
    assert refused.value.message == message


@pytest.mark.usefixtures("as_in_its_process")
def test_an_image_within_the_limit_is_read_where_pillow_would_warn():
    content = saved(Image.new("1", (10_000, 9_999)))
    assert prepare([Sent(content)], PREPROCESSING).shape == (1, 3, 16, 16)


def test_images_that_are_large_together_are_refused_before_any_is_decoded():
    small = [Sent(png_header(9000, 9000), f"{number}.png") for number in range(2)]
    with pytest.raises(ImageInvalid, match="have 162,000,000 pixels together, and at most 100,000,000"):
        prepare(small, PREPROCESSING)


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1)])
def test_a_line_that_would_grow_with_its_short_side_is_refused(size):
    with pytest.raises(ImageInvalid, match=f"{size[0]} × {size[1]} pixels and is too narrow"):
        prepare([Sent(saved(Image.new("RGB", size)))], Preprocessing())


@pytest.mark.usefixtures("as_in_its_process")
def test_what_pillow_only_warns_about_is_read():
    odd = picture("P")
    content = saved(odd, transparency=bytes(range(200)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        assert prepare([Sent(content)], PREPROCESSING).shape == (1, 3, 16, 16)
    assert caught == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("EPS", "PostScript"),
        ("PDF", "PDF"),
        ("TIFF", "TIFF"),
        ("JPEG2000", "JPEG 2000"),
        ("PPM", "PPM"),
        ("ICO", "an icon"),
        ("PCX", "none"),
        ("TGA", "none"),
    ],
)
def test_other_formats_are_not_read_and_are_called_by_their_names(kind, said):
    with pytest.raises(ImageInvalid, match=f"it is {said}; JPEG, PNG, WebP, GIF and BMP are read"):
        prepare([Sent(saved(picture(), kind))], PREPROCESSING)


MODES = [
    ("PNG", "L"),
    ("PNG", "LA"),
    ("PNG", "RGBA"),
    ("PNG", "P"),
    ("PNG", "I;16"),
    ("JPEG", "CMYK"),
    ("JPEG", "L"),
    ("GIF", "P"),
    ("WEBP", "RGBA"),
    ("BMP", "RGB"),
]


@pytest.mark.parametrize(("kind", "mode"), MODES)
def test_bytes_of_every_mode_are_prepared_as_their_file_would_be(tmp_path, kind, mode):
    image = picture("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype("uint16") * 256)
    content = saved(image, kind)
    (tmp_path / "file").write_bytes(content)
    expected = PREPROCESSING.centre(decode(tmp_path / "file"))
    assert torch.equal(prepare([Sent(content)], PREPROCESSING)[0], expected)


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert prepare([Sent(content)], PREPROCESSING)[0, :, 0, 0].tolist() == [255, 0, 0]


def test_a_turned_image_is_set_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (40, 40), "black")
    image.paste("white", (0, 0, 10, 40))
    upright = prepare([Sent(saved(image, "JPEG", exif=exif))], PREPROCESSING)[0]
    assert upright[:, 0].min() > 200
    assert upright[:, -1].max() < 50


class Odd(nn.Module):
    """Answers as `mood` says."""

    mood = "fine"

    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images):
        match Odd.mood:
            case "raises":
                raise RuntimeError("this stands at /secret/place")
            case "nan":
                return self.head(images.mean((2, 3))) * float("nan")
            case "full":
                raise torch.OutOfMemoryError("CUDA out of memory")
        return self.head(images.mean((2, 3)))


def build(num_classes):
    if Odd.mood == "unbuildable":
        raise KeyError("brick")
    return Odd(num_classes)


@pytest.fixture
def odd(tmp_path, data_dir, job):
    import finetune

    row = backbone(name="odd", head="head", preprocessing=PREPROCESSING)(build)
    registry = Registry({"odd": row})
    spec = job(stage(0.01, 1), backbone={"name": "odd", "weights": None})
    events = finetune.train(spec, tmp_path / "odd", data_dir=data_dir, registry=registry, device="cpu")
    last = [event.checkpoint for event in events if hasattr(event, "checkpoint")][-1]
    yield Predictor(registry, CPU), Question(last.weights, last.sha256, (Sent(saved(picture())),))
    Odd.mood = "fine"


@pytest.mark.parametrize(
    ("mood", "error", "sentence"),
    [
        ("raises", NetworkFailed, "its network raises RuntimeError"),
        ("nan", NetworkFailed, "its network gives classes that are no finite numbers"),
        ("unbuildable", NetworkFailed, "its network cannot be built: KeyError"),
        ("full", OutOfMemory, "no memory is left for 1 images"),
    ],
)
def test_a_network_that_fails_is_named_and_answers_again_once_it_can(odd, mood, error, sentence):
    predictor, question = odd
    Odd.mood = mood
    with pytest.raises(FinetuneError) as failed:
        predictor.predict(question)
    assert type(failed.value) is error
    assert failed.value.message == sentence
    Odd.mood = "fine"
    assert len(predictor.predict(question).predictions) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(DeviceUnusable, match="'cuda'"):
        open_predictor((), "cuda")


def test_the_process_answers_with_the_operators_backbones(as_in_its_process, trained):
    path, sha256 = trained["classes"]
    with pytest.raises(SpecInvalid):  # none was given
        as_in_its_process(Question(path, sha256, (Sent(saved(picture())),)), print)


def test_the_open_network_has_its_batch_norms_folded(predictor, trained):
    path, sha256 = trained["classes"]
    predictor.predict(Question(path, sha256, (Sent(saved(picture())),)))
    (model,) = predictor._open.values()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.network.modules())
