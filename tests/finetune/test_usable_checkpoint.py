"""What a downloaded checkpoint is worth without Thaw."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch

ALONE = """
import json, sys
from pathlib import Path
import safetensors, safetensors.torch, torch, torchvision
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

file, data = Path(sys.argv[1]), Path(sys.argv[2])
with safetensors.safe_open(file, "pt") as opened:
    told = {key: value for key, value in opened.metadata().items()}
classes, preprocessing = json.loads(told["classes"]), json.loads(told["preprocessing"])
model = torchvision.models.get_model(
    told["backbone"], weights=None, num_classes=len(classes), **json.loads(told["backbone_options"])
)
model.load_state_dict(safetensors.torch.load_file(file))
transform = v2.Compose([
    v2.Resize(preprocessing["resize"], InterpolationMode(preprocessing["interpolation"]), antialias=True),
    v2.CenterCrop(preprocessing["crop"]),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize(preprocessing["mean"], preprocessing["std"]),
])
right = count = 0
with torch.no_grad():
    for path in sorted(data.rglob("*.png")):
        image = transform(v2.functional.pil_to_tensor(Image.open(path).convert("RGB")))
        right += classes[model.eval()(image[None]).argmax().item()] == path.parent.name
        count += 1
ours = [name for name in sys.modules if name.partition(".")[0] in ("finetune", "app", "worker", "client")]
print(json.dumps({"accuracy": right / count, "ours": ours}))
"""

PROCESS = """
import json, sys
import torch
torch.set_num_threads(1)
import finetune
from finetune.backbones import Registry, backbone
from finetune.data.preprocessing import Preprocessing

@backbone(name="net", head="2", preprocessing=Preprocessing(resize=10, crop=8))
def row(num_classes):
    flat = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
    return torch.nn.Sequential(flat, torch.nn.Flatten(), torch.nn.Linear(144, num_classes))

spec, folder, data = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
for event in finetune.train(spec, folder, data_dir=data, registry=Registry({"net": row}), device="cpu"):
    pass
"""


@pytest.fixture(scope="module")
def resnet(job, data_dir, registry, tmp_path_factory):
    """The last epoch of a small ResNet-18 that has learned something."""
    import finetune
    from finetune.events import EpochEnded

    spec = job(
        {"epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.02}}},
        backbone={"name": "resnet18", "weights": None},
        image_size=32,
        checkpoints={"keep_last": 5},
    )
    folder = tmp_path_factory.mktemp("resnet")
    events = finetune.train(spec, folder, data_dir=data_dir, job="job_7", device="cpu")
    return [event for event in events if isinstance(event, EpochEnded)][-1]


def test_a_checkpoints_metadata_says_all_that_using_it_needs(resnet):
    with safetensors.safe_open(resnet.checkpoint.weights, "pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["backbone"], metadata["job"]) == ("pt", "resnet18", "job_7")
    assert metadata["stage"] == "stage-1"
    told = {key: json.loads(metadata[key]) for key in ("classes", "preprocessing", "global_epoch", "val")}
    assert told["classes"] == ["blue", "green", "red"]
    assert told["preprocessing"] == {
        "resize": 37,
        "crop": 32,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
    }
    assert told["global_epoch"] == 2
    assert told["val"] == resnet.record.val
    assert json.loads(metadata["backbone_options"]) == {}


def test_torchvision_alone_gives_the_reported_accuracy(resnet, data_dir, tmp_path):
    arguments = [str(resnet.checkpoint.weights), str(data_dir / "hues" / "val")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["ours"] == []
    assert told["accuracy"] == pytest.approx(resnet.record.val["accuracy"], abs=1e-4)


def test_a_run_in_another_process_writes_the_same_bytes(job, data_dir, tmp_path):
    spec = job(
        {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.02}}, "augmentation": "standard"},
        backbone={"name": "net", "weights": None},
    )
    found = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", PROCESS, json.dumps(spec), str(folder), str(data_dir)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
        found.append((folder / "epoch-00001.safetensors").read_bytes())
    assert found[0] == found[1]


EMBED_ALL = """
import sys
from pathlib import Path
paths = sorted(Path(sys.argv[1]).rglob("*.png"))
points = torch.stack([embed(path) for path in paths])
ours = [name for name in sys.modules if name.partition(".")[0] in ("finetune", "app", "worker", "client")]
print(json.dumps({"labels": [path.parent.name for path in paths], "points": points.tolist(), "ours": ours}))
"""


@pytest.mark.parametrize(("size", "normalize"), [(None, True), (16, False)], ids=["pooled", "projected"])
def test_the_documents_lines_embed_as_the_job_did(job, data_dir, tmp_path, size, normalize):
    import finetune
    from finetune.events import EpochEnded
    from finetune.objectives.embeddings import retrieval

    objective = {"name": "triplet", "classes_per_batch": 3, "embedding_size": size, "normalize": normalize}
    spec = job(
        {"epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.01}}},
        backbone={"name": "resnet18", "weights": None},
        image_size=32,
        objective=objective,
    )
    events = finetune.train(spec, tmp_path, data_dir=data_dir, device="cpu")
    ended = [event for event in events if isinstance(event, EpochEnded)][-1]
    ended.checkpoint.weights.rename(tmp_path / "best.safetensors")
    text = (Path(__file__).parents[2] / "docs" / "loading.md").read_text()
    (lines,) = (
        found for found in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def embed(" in found
    )
    lines, _, distance = lines.partition("print(")
    assert "photo.jpg" in distance
    done = subprocess.run(
        [sys.executable, "-I", "-c", lines + EMBED_ALL, str(data_dir / "hues" / "val")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    names = sorted(set(told["labels"]))
    labels = torch.tensor([names.index(name) for name in told["labels"]])
    found = retrieval(torch.tensor(told["points"]), labels, 0.2)
    assert told["ours"] == []
    assert found.loss == pytest.approx(ended.record.val["loss"], rel=1e-3)
    assert found.variance == pytest.approx(ended.record.val["variance"], rel=1e-3)
    assert found.recall_at_1 == ended.record.val["recall@1"]
