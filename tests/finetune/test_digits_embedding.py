"""Real digits: a network that was trained with softmax on five of them learns to embed five others.

The recipe on plain views: its random ones are mirrored and cut, and digits are others then. With them recall
does not rise here, while on photographs they help.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import finetune
from examples.small_cnn import SIZE
from examples.small_cnn import backbone as small_cnn
from finetune.backbones import Registry
from finetune.data.decoding import decode
from finetune.events import EpochEnded
from finetune.objectives.embeddings import placed, retrieval

GALLERY = 5  # images of each digit in which one is looked for; among many more any network finds a likeness


def write_digits(root: Path, digits, train, val):
    """Writes scikit-learn's digits, so many of each."""
    found = load_digits()
    shuffled = np.random.RandomState(0).permutation(len(found.target))
    for digit in digits:
        chosen = [i for i in shuffled if found.target[i] == digit][: train + val]
        for place, index in enumerate(chosen):
            folder = root / ("train" if place < train else "val") / str(digit)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = (found.images[index] * 255 / 16).round().astype("uint8")
            image = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            image.save(folder / f"{index}.png")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    write_digits(root / "old", range(5), 100, 10)
    write_digits(root / "new", range(5, 10), 80, 90)
    return root


def last_weights(spec, root, folder):
    """Trains; gives the last epoch's weights and figures."""
    registry = Registry({"small_cnn": small_cnn})
    events = finetune.train(
        {**spec, "precision": "fp32"},
        folder,
        data_dir=root,
        weights_dir=root,
        registry=registry,
        device="cpu",
    )
    ended = [event for event in events if isinstance(event, EpochEnded)][-1]
    return ended.checkpoint.weights, ended.record.val


def embed(file, root):
    """The validation images of the new digits in a network's pooled features, (digit, image, feature)."""
    model = small_cnn.make(None, SIZE).eval()
    weights = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("head")}
    model.load_state_dict(weights)
    rows = []
    for folder in sorted((root / "new" / "val").iterdir()):
        images = torch.stack([decode(path) for path in sorted(folder.iterdir())])
        with torch.no_grad():
            rows.append(placed(model(small_cnn.preprocessing.normalize(images)).double(), normalize=True))
    return torch.stack(rows)


def recall(embedding):
    """recall@1, its mean over galleries with a few images of each digit."""
    labels = torch.arange(len(embedding)).repeat_interleave(GALLERY)
    galleries = [embedding[:, at : at + GALLERY] for at in range(0, embedding.shape[1], GALLERY)]
    found = [retrieval(gallery.flatten(0, 1), labels, 0.2).recall_at_1 for gallery in galleries]
    return sum(found) / len(found)


@pytest.mark.parametrize("seed", [0, 1])
def test_recall_of_digits_never_seen_by_softmax_rises_over_its_own_features(digits, tmp_path, seed):
    softmax = {
        "dataset": {"path": "old"},
        "backbone": {"name": "small_cnn", "weights": None},
        "seed": seed,
        "stages": [{"epochs": 3, "lr": {"schedule": {"name": "constant", "lr": 0.01}}}],
    }
    start, told = last_weights(softmax, digits, tmp_path / "softmax")
    assert told["accuracy"] > 0.9
    (digits / "start.safetensors").write_bytes(start.read_bytes())
    spec = {
        "dataset": {"path": "new"},
        "backbone": {"name": "small_cnn", "weights": {"file": "start.safetensors"}},
        "seed": seed,
        "objective": {"name": "triplet", "classes_per_batch": 5},
        "recipe": {"name": "triplet", "augmentation": "none"},
    }
    tuned, told = last_weights(spec, digits, tmp_path / "triplet")
    before, after = embed(start, digits), embed(tuned, digits)
    labels = torch.arange(5).repeat_interleave(before.shape[1])
    whole = [retrieval(found.flatten(0, 1), labels, 0.2) for found in (before, after)]
    assert told["recall@1"] == pytest.approx(whole[1].recall_at_1)
    assert whole[1].recall_at_1 > whole[0].recall_at_1
    assert recall(after) > recall(before) + 0.04
    assert whole[1].map_at_r > whole[0].map_at_r + 0.25
