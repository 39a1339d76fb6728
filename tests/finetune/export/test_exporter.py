"""Whole bundles: every format, of networks that classify, label and embed."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from torchvision.models import get_model

from finetune.checkpoint import sha256_of
from finetune.data.decoding import Undecodable, decode
from finetune.errors import DatasetGone, ExportFailed, WeightsIncompatible, WeightsNotFound
from finetune.export.exporter import export
from finetune.export.orders import Format, Wanted

ROOT = Path(__file__).parents[3]
WEIGHTS = [Wanted(Format.SAFETENSORS), Wanted(Format.TORCH)]
GRAPHS = [Wanted(f, inside) for f in (Format.ONNX, Format.EXPORTED) for inside in (False, True)]
ALL = WEIGHTS + GRAPHS
KINDS = {
    "classes": ("resnet18", "cross_entropy", 3, ALL),
    "labels": ("resnet18", "binary_cross_entropy", 3, ALL),
    "embedding": ("resnet18", "triplet", 8, ALL),
    "pooled": ("resnet18", "triplet", None, WEIGHTS),
    "mobile": ("mobilenet_v3_small", "cross_entropy", 3, [Wanted(Format.EXPORTED, True)]),
}
EMBEDDING = ("embedding", "pooled")
READ = re.compile(r"```python\n(.*?)```", re.DOTALL)

# Runs each card's lines as they are, then those that read a photograph for every validation image.
READER = """
import contextlib, io, json, os, sys
for name in sys.argv[1].split(",") if sys.argv[1] else ():
    sys.modules[name] = None  # not there
found = {}
for folder in sys.argv[3:]:
    os.chdir(folder)
    lines = open("lines.py", encoding="utf-8").read()
    told, names = io.StringIO(), {}
    with contextlib.redirect_stdout(told):
        exec(compile(lines, "lines.py", "exec"), names)
    answers = {}
    _, _, reading = lines.partition("image = ImageOps")
    reading = "image = ImageOps" + reading.partition("print(")[0]
    for photo in sorted(os.listdir(sys.argv[2])):
        path = os.path.join(sys.argv[2], photo)
        if "embed" in names:
            answers[photo] = [float(value) for value in names["embed"](path)]
        else:
            exec(reading.replace('"photo.jpg"', repr(path)), names)
            answers[photo] = [float(value) for value in names["probabilities"]]
    found[folder] = {"told": told.getvalue(), "answers": answers}
ours = {"finetune", "app", "client", "worker"} & {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"found": found, "ours": sorted(ours)}), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def weights(make_checkpoint):
    return {kind: make_checkpoint(name, loss, outputs=n) for kind, (name, loss, n, _) in KINDS.items()}


@pytest.fixture(scope="module")
def bundles(weights, bundle_of, tmp_path_factory):
    """Every kind in every format: what the exporter answered, and the bundle's folder, unpacked."""
    found = {}
    for kind, path in weights.items():
        folder = tmp_path_factory.mktemp(kind)
        for wanted in KINDS[kind][-1]:
            exported, bundle = bundle_of(path, wanted, folder)
            unpacked = folder / wanted.file_name
            with zipfile.ZipFile(bundle) as archive:
                archive.extractall(unpacked)
            (lines,) = READ.findall((unpacked / "README.md").read_text())
            (unpacked / "lines.py").write_text(lines)
            found[kind, wanted] = (exported, unpacked)
    return found


@pytest.fixture(scope="module")
def images(photos, tmp_path_factory):
    """A folder with all validation images that can be read, under names of their own."""
    folder = tmp_path_factory.mktemp("images")
    for path in (photos / "odd" / "val").rglob("*.png"):
        try:
            decode(path)
        except Undecodable:
            continue
        (folder / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def read(bundles, images):
    """Runs cards' lines in a process of their own, some packages hidden; the second photo is `other.jpg`."""

    def run(keys, hidden=()):
        folders = [bundles[key][1] for key in keys]
        first, second, *_ = sorted(images.iterdir())
        for folder in folders:
            (folder / "photo.jpg").write_bytes(first.read_bytes())
            (folder / "other.jpg").write_bytes(second.read_bytes())
        done = subprocess.run(
            [sys.executable, "-I", "-c", READER, ",".join(hidden), str(images), *map(str, folders)],
            cwd=images,
            env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stderr.splitlines()[-1])
        assert told["ours"] == []
        return {key: told["found"][str(folder)] for key, folder in zip(keys, folders, strict=True)}

    return run


@pytest.fixture(scope="module")
def expected(weights, opened, images):
    """What the checkpoints answer to the validation images."""
    found = {}
    for kind, path in weights.items():
        model = opened(path)
        found[kind] = {
            photo.name: model.answers(model.preprocessing.centre(decode(photo))[None])[0]
            for photo in sorted(images.iterdir())
        }
    return found


@pytest.mark.parametrize(
    ("formats", "hidden"),
    [
        ([w for w in ALL if not w.preprocessing], ()),
        ([Wanted(Format.ONNX, True)], ("torch", "torchvision")),
        ([Wanted(Format.EXPORTED, True)], ("torchvision", "onnxruntime")),
    ],
    ids=["prepared outside", "onnx without torch", "exported without torchvision"],
)
def test_lines_of_each_card_give_the_checkpoint_s_answers_to_every_image_without_us(
    read, expected, bundles, formats, hidden
):
    keys = [(kind, w) for kind, (*_, made) in KINDS.items() for w in formats if w in made]
    found = read(keys, hidden)
    assert {kind for kind, _ in found} >= {"classes", "labels", "embedding"}
    for (kind, wanted), of_lines in found.items():
        assert len(of_lines["answers"]) == 12
        for photo, answer in of_lines["answers"].items():
            torch.testing.assert_close(
                torch.tensor(answer), expected[kind][photo], atol=1e-4, rtol=0, msg=f"{kind} {wanted} {photo}"
            )
        first, second = list(expected[kind].values())[:2]
        answers, *more = of_lines["told"].splitlines()
        if kind in EMBEDDING:
            assert float(answers) == pytest.approx(torch.dist(first, second).item(), abs=1e-4)
            continue
        told = json.loads((bundles[kind, wanted][1] / "model.json").read_text())
        probabilities = dict(zip(told["classes"], first.tolist(), strict=True))
        assert eval(answers) == pytest.approx(probabilities, abs=2e-4)
        if kind == "labels":
            assert eval(more[0]) == [
                name for name, p in probabilities.items() if p >= told["thresholds"][name]
            ]


def test_answers_differ_from_image_to_image_or_the_tests_above_show_nothing(expected):
    for kind, answers in expected.items():
        assert torch.stack(list(answers.values())).std(0).max() > 1e-2, kind


@pytest.mark.parametrize("kind", KINDS)
def test_each_export_says_over_how_many_images_its_answers_were_how_near(bundles, kind):
    for wanted in KINDS[kind][-1]:
        exported, folder = bundles[kind, wanted]
        assert exported.images == 12
        assert exported.largest_difference < 1e-4
        told = json.loads((folder / "model.json").read_text())
        assert told["comparison"] == {
            "largest_difference": exported.largest_difference,
            "images": 12,
            "same_data": False,  # the checkpoints of these tests do not say what they were trained on
        }
        assert (told["format"], told["preprocessing_in_graph"]) == (wanted.format, wanted.preprocessing)


def test_a_graph_is_one_file_with_the_signature_that_model_json_says(bundles):
    for (kind, wanted), (_, folder) in bundles.items():
        files = {path.name for path in folder.glob("model.*")}
        assert files == {"model.json", json.loads((folder / "model.json").read_text())["file"]}
        if wanted.format is not Format.ONNX:
            continue
        model = onnx.load(folder / "model.onnx")
        told = json.loads((folder / "model.json").read_text())
        (given,), (answer,) = model.graph.input, model.graph.output
        assert (given.name, answer.name) == (told["input"]["name"], told["output"]["name"])
        assert answer.name == ("embedding" if kind in EMBEDDING else "probabilities")
        sizes = [size.dim_param or size.dim_value for size in given.type.tensor_type.shape.dim]
        dtype = onnx.TensorProto.UINT8 if wanted.preprocessing else onnx.TensorProto.FLOAT
        assert given.type.tensor_type.elem_type == dtype
        assert [isinstance(size, str) for size in sizes] == (
            [True, False, True, True] if wanted.preprocessing else [True, False, False, False]
        )


def test_no_file_tells_of_folders_of_this_machine(bundles):
    for _, folder in bundles.values():
        for path in folder.iterdir():
            content = path.read_bytes()
            for secret in (os.fspath(ROOT), os.fspath(Path(torch.__file__).parent), os.fspath(folder.parent)):
                assert secret.encode() not in content, path


@pytest.mark.parametrize("wanted", [ALL[1], ALL[3], ALL[5]], ids=lambda wanted: wanted.key)
def test_the_same_checkpoint_gives_the_same_bytes_again(weights, bundles, bundle_of, wanted, tmp_path):
    again, bundle = bundle_of(weights["classes"], wanted, tmp_path)
    assert again == bundles["classes", wanted][0]
    assert [path.name for path in tmp_path.iterdir()] == [bundle.name]


def test_network_that_takes_its_weights_only_with_their_version_gets_them_with_it(
    make_checkpoint, bundle_of, tmp_path
):
    exported, bundle = bundle_of(make_checkpoint("mnasnet0_5", crop=32), Wanted(Format.TORCH), tmp_path)
    assert exported.images == 12
    with zipfile.ZipFile(bundle) as archive, archive.open("model.pt") as file:
        weights = torch.load(file, weights_only=True)["state_dict"]
    get_model("mnasnet0_5", weights=None, num_classes=3).load_state_dict(weights)


def test_a_network_that_decides_by_its_numbers_cannot_be_a_graph_and_leaves_nothing(
    make_checkpoint, bundle_of, tmp_path
):
    weights = make_checkpoint("choosy", crop=32)
    for wanted in (Wanted(Format.ONNX), Wanted(Format.EXPORTED, True)):
        with pytest.raises(ExportFailed) as failed:
            bundle_of(weights, wanted, tmp_path)
        assert failed.value.message.startswith(f"{wanted.key} cannot be made of this network: ")
        assert "data-dependent" in failed.value.message
        assert "\n" not in failed.value.message
        assert list(tmp_path.iterdir()) == []
    exported, _ = bundle_of(weights, Wanted(Format.TORCH), tmp_path)
    assert exported.images == 12


def test_an_export_that_answers_otherwise_is_not_handed_out(make_checkpoint, bundle_of, tmp_path):
    with pytest.raises(ExportFailed, match=r"differ from the checkpoint's by 0\.\d+"):
        bundle_of(make_checkpoint("forgetful", crop=32), Wanted(Format.ONNX), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_card_of_a_network_of_one_s_own_says_that_its_code_is_needed_where_it_is(
    make_checkpoint, bundle_of, tmp_path
):
    weights = make_checkpoint("forgetful", crop=32)
    for wanted, needed in ((Wanted(Format.TORCH), True), (Wanted(Format.SAFETENSORS), True)):
        _, bundle = bundle_of(weights, wanted, tmp_path)
        with zipfile.ZipFile(bundle) as archive:
            card = archive.read("README.md").decode()
        assert ("your_network(" in card) is needed
        assert ("own code" in card) is needed


def test_leftovers_of_an_export_that_was_killed_are_swept_by_the_next(weights, order, photos, nets, tmp_path):
    asked = order(weights["labels"], Wanted(Format.TORCH), tmp_path / "ckpt_1-torch.zip")
    asked.work_folder.mkdir()
    (asked.work_folder / "model.onnx").write_text("half")
    export(asked, photos, nets)
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt_1-torch.zip"]
    with zipfile.ZipFile(tmp_path / "ckpt_1-torch.zip") as archive:
        assert archive.namelist() == ["model.pt", "README.md", "model.json"]


def test_a_checkpoint_that_is_damaged_is_not_exported(weights, order, photos, nets, tmp_path):
    good = weights["labels"]
    damaged = tmp_path / good.name
    content = bytearray(good.read_bytes())
    content[-5] ^= 1
    damaged.write_bytes(content)
    asked = order(damaged, Wanted(Format.SAFETENSORS), tmp_path / "x.zip", sha256=sha256_of(good))
    with pytest.raises(WeightsIncompatible, match="is damaged: its SHA-256"):
        export(asked, photos, nets)
    assert not (tmp_path / "x.zip").exists()


def test_a_folder_that_cannot_be_written_is_not_the_network_s_fault(weights, order, photos, nets, tmp_path):
    good = weights["labels"]
    (tmp_path / "exports").write_text("a file where a folder should be")
    asked = order(good, Wanted(Format.SAFETENSORS), tmp_path / "exports" / "x.zip")
    with pytest.raises(NotADirectoryError):
        export(asked, photos, nets)


def test_a_checkpoint_or_a_dataset_that_is_gone_is_said(weights, order, nets, photos, tmp_path):
    asked = order(weights["classes"], Wanted(Format.TORCH), tmp_path / "out" / "ckpt_1-torch.zip")
    with pytest.raises(DatasetGone, match="there is no dataset 'odd'"):
        export(asked, tmp_path, nets)
    gone = order(tmp_path / "none.safetensors", Wanted(Format.TORCH), tmp_path / "out" / "ckpt_1-torch.zip")
    with pytest.raises(WeightsNotFound, match=r"none\.safetensors is gone"):
        export(gone, photos, nets)
    (tmp_path / "damaged.safetensors").write_text("half")
    damaged = order(tmp_path / "damaged.safetensors", Wanted(Format.TORCH), tmp_path / "out" / "x.zip")
    with pytest.raises(WeightsIncompatible, match="damaged"):
        export(damaged, photos, nets)
    assert list((tmp_path / "out").iterdir()) == []
