import json

import pytest
import safetensors.torch
import torch
import torchvision

from finetune.backbones import Registry
from finetune.backbones import torchvision as tv
from finetune.backbones.weights import find_source, weights_file
from finetune.errors import SpecInvalid, WeightsIncompatible, WeightsNotFound
from finetune.network import build, draw
from finetune.spec import BackboneSpec, JobSpec

SMALL = "squeezenet1_1"
CLASSES = ("blue", "green", "red")


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """A cache of torch of our own, and a network that leads nowhere."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def weights_dir(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def spec_for(name, weights, **fields):
    stages = [{"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}]
    backbone = {"name": name, "weights": weights}
    return JobSpec.model_validate(
        {"dataset": {"path": "a"}, "backbone": backbone, "stages": stages, **fields}
    )


def tiny_state(registry, num_classes):
    torch.manual_seed(5)
    return registry.find("tiny").make(num_classes, 16).state_dict()


@pytest.fixture
def network(registry, weights_dir):
    """Draws and builds the tiny network from a weights file; gives blueprint and network."""

    def make(weights, classes=CLASSES, **fields):
        spec = spec_for("tiny", weights, **fields)
        blueprint = draw(spec, registry, classes, weights_dir, None)
        return blueprint, build(blueprint, seed=1, dropout=0.0)

    return make


def same_but_head(state, model):
    own = model.state_dict()
    return all(torch.equal(own[name], state[name]) for name in state if not name.startswith("head."))


def test_torchvisions_weights_are_read_from_the_local_cache(torch_home, weights_dir):
    saved = torchvision.models.squeezenet1_1(num_classes=1000).state_dict()
    url = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    torch_home.mkdir(parents=True)
    torch.save(saved, torch_home / url.rpartition("/")[2])
    blueprint = draw(spec_for(SMALL, "DEFAULT"), Registry(), CLASSES, weights_dir, None)
    model = build(blueprint, seed=0, dropout=0.0)
    own = model.state_dict()
    changed = {
        name
        for name in own
        if own[name].shape != saved[name].shape or not torch.equal(own[name], saved[name])
    }
    assert changed == {"classifier.1.weight", "classifier.1.bias"}
    assert blueprint.head.action == "replaced"
    assert blueprint.head.reason == "the weights' head knows none of the classes"


def test_torchvisions_head_is_kept_for_the_very_classes_of_imagenet(torch_home, weights_dir):
    classes = tuple(torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"])
    assert draw(spec_for(SMALL, "DEFAULT"), Registry(), classes, weights_dir, None).head.action == "kept"


def test_weights_that_cannot_be_downloaded_give_a_sentence(torch_home, weights_dir):
    blueprint = draw(spec_for(SMALL, "IMAGENET1K_V1"), Registry(), CLASSES, weights_dir, None)
    with pytest.raises(WeightsNotFound) as missing:
        build(blueprint, seed=0, dropout=0.0)
    assert missing.value.message.startswith(
        "the weights 'IMAGENET1K_V1' of squeezenet1_1 could not be downloaded ("
    )
    assert missing.value.param == "backbone.weights"


def test_an_unknown_weights_name_is_refused_with_the_closest(registry, weights_dir):
    backbone = tv.find("resnet50")
    assert backbone is not None
    with pytest.raises(SpecInvalid, match="'IMAGENET1K_V2'"):
        find_source(BackboneSpec(name="resnet50", weights="IMAGENET1K_V3"), backbone, weights_dir, None)
    with pytest.raises(SpecInvalid, match="tiny has no named weights: give null"):
        draw(spec_for("tiny", "DEFAULT"), registry, CLASSES, weights_dir, None)


def test_a_file_that_fits_is_copied_and_its_head_is_replaced_where_it_says_no_classes(
    network, registry, weights_dir
):
    state = tiny_state(registry, 3)
    safetensors.torch.save_file(state, weights_dir / "x.safetensors")
    blueprint, model = network({"file": "x.safetensors"})
    assert same_but_head(state, model)
    assert not torch.equal(model.head.weight, state["head.weight"])
    assert blueprint.head.reason == "the weights do not say which classes their head knows"


def test_a_file_without_a_head_fits(network, registry, weights_dir):
    state = {name: t for name, t in tiny_state(registry, 9).items() if not name.startswith("head.")}
    safetensors.torch.save_file(state, weights_dir / "x.safetensors")
    assert same_but_head(state, network({"file": "x.safetensors"})[1])


def test_a_new_head_is_drawn_from_the_seed(registry, weights_dir):
    blueprint = draw(spec_for("tiny", None), registry, CLASSES, weights_dir, None)
    one, again, other = (build(blueprint, seed, 0.0).get_parameter("head.weight") for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


METADATA = {
    "classes": json.dumps(CLASSES),
    "backbone": "tiny",
    "preprocessing": json.dumps(
        {"resize": 30, "crop": 24, "mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bicubic"}
    ),
}


def test_a_checkpoints_preprocessing_goes_before_the_backbones(network, registry, weights_dir):
    safetensors.torch.save_file(tiny_state(registry, 3), weights_dir / "x.safetensors", METADATA)
    blueprint, _ = network({"file": "x.safetensors"})
    assert (blueprint.preprocessing.resize, blueprint.preprocessing.crop) == (30, 24)
    blueprint, _ = network({"file": "x.safetensors"}, image_size=12)
    assert (blueprint.preprocessing.resize, blueprint.preprocessing.crop) == (15, 12)


@pytest.mark.parametrize("classes", ["cat, dog", "3", '{"a": 1'])
def test_what_other_tools_write_as_classes_is_left_out(network, registry, weights_dir, classes):
    metadata = {"classes": classes, "preprocessing": "centre crop"}
    safetensors.torch.save_file(tiny_state(registry, 3), weights_dir / "x.safetensors", metadata)
    blueprint, _ = network({"file": "x.safetensors"})
    assert blueprint.head.action != "kept"
    assert blueprint.preprocessing.crop == 16


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


UNFIT = {
    "missing": (
        lambda s: without(s, "stem.0.weight", "body.0.1.bias"),
        "they lack stem.0.weight, body.0.1.bias",
    ),
    "unknown": (
        lambda s: {**s, "neck.bias": torch.ones(2)},
        "they have neck.bias, which the network has not",
    ),
    "reshaped": (
        lambda s: {**s, "stem.1.bias": torch.ones(9)},
        r"they have stem.1.bias as \[9\] where the network has \[4\]",
    ),
    "many": (lambda s: {f"x{n}": torch.ones(1) for n in range(9)}, "and 6 more, which the network has not"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_weights_that_do_not_fit_are_refused_naming_the_first_that_differ(
    network, registry, weights_dir, kind
):
    change, sentence = UNFIT[kind]
    safetensors.torch.save_file(
        change(tiny_state(registry, 3)), weights_dir / "x.safetensors", {"backbone": "y"}
    )
    with pytest.raises(WeightsIncompatible, match=sentence) as unfit:
        network({"file": "x.safetensors"})
    assert unfit.value.message.startswith("the weights x.safetensors do not fit (they are of y): ")
    assert unfit.value.param == "backbone.weights"


def test_counters_of_batches_may_be_left_out(network, registry, weights_dir):
    state = {n: t for n, t in tiny_state(registry, 3).items() if not n.endswith("num_batches_tracked")}
    safetensors.torch.save_file(state, weights_dir / "x.safetensors")
    assert same_but_head(state, network({"file": "x.safetensors"})[1])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\xff" * 100, b"{}"])
def test_a_file_that_is_no_safetensors_file_is_incompatible(network, weights_dir, content):
    (weights_dir / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsIncompatible, match=r"x\.safetensors is not a safetensors file") as unfit:
        network({"file": "x.safetensors"})
    assert str(weights_dir) not in unfit.value.message


def test_outside_and_absent_give_the_same_message_with_the_closest(weights_dir, tmp_path):
    (weights_dir / "mobilenet.safetensors").touch()
    (tmp_path / "secret.safetensors").touch()
    (weights_dir / "link").symlink_to(tmp_path / "secret.safetensors")
    (weights_dir / "folder").mkdir()
    for name in [
        "../secret.safetensors",
        str(tmp_path / "secret.safetensors"),
        "link",
        "absent",
        "folder",
        ".",
    ]:
        with pytest.raises(WeightsNotFound) as missing:
            weights_file(weights_dir, name)
        assert missing.value.message.startswith(f"there is no weights file {name!r} below the weights root; ")
        assert "mobilenet.safetensors" in missing.value.message
        assert missing.value.param == "backbone.weights.file"


def test_a_name_too_long_for_any_file_is_absent(weights_dir):
    with pytest.raises(WeightsNotFound):
        weights_file(weights_dir, "x" * 400)


def test_a_jobs_checkpoint_that_nobody_found_is_named(registry, weights_dir, tmp_path):
    for file in (None, tmp_path / "gone.safetensors"):
        with pytest.raises(WeightsNotFound, match="there is no checkpoint 'best' of job_7") as missing:
            draw(spec_for("tiny", {"job": "job_7"}), registry, CLASSES, weights_dir, file)
        assert missing.value.param == "backbone.weights.job"


def test_a_jobs_checkpoint_is_read_from_the_file_that_stands_for_it(registry, weights_dir, tmp_path):
    state = tiny_state(registry, 3)
    safetensors.torch.save_file(state, tmp_path / "c.safetensors", METADATA)
    blueprint = draw(
        spec_for("tiny", {"job": "job_7"}), registry, CLASSES, weights_dir, tmp_path / "c.safetensors"
    )
    assert blueprint.head.action == "kept"
    assert same_but_head(state, build(blueprint, 0, 0.0))


@pytest.mark.parametrize("harm", ["gone", "cut off"])
def test_a_file_that_changes_between_drawing_and_building_is_told_by_name(registry, weights_dir, harm):
    path = weights_dir / "mine.safetensors"
    safetensors.torch.save_file(tiny_state(registry, 3), path)
    blueprint = draw(spec_for("tiny", {"file": path.name}), registry, CLASSES, weights_dir, None)
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9])
    error = WeightsNotFound if harm == "gone" else WeightsIncompatible
    with pytest.raises(error, match=r"^mine\.safetensors (is gone|can no longer be read)$") as caught:
        build(blueprint, seed=0, dropout=0.0)
    assert caught.value.param == "backbone.weights.file"
