"""timm's models: one of every module on the meta device, weights, a run, and plain timm afterwards."""

import json
import re
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from timm.data.config import resolve_data_config

import finetune
from finetune.backbones import Registry, check_image_size, skeleton
from finetune.backbones import timm as tm
from finetune.errors import SpecInvalid, WeightsNotFound
from finetune.events import EpochEnded
from finetune.freezing import freezing_of
from finetune.groups import groups_of
from finetune.modules import blocks, within
from finetune.network import build, draw
from finetune.spec import JobSpec
from finetune.spec.schedules import LrPlan
from finetune.spec.stages import FreezeBackbone, FreezeNone

ROOT = Path(__file__).parents[3]
CLASSES = ("blue", "green", "red")
TINY = "timm/test_resnet"
SEVERAL_HEADS = ["deit_tiny_distilled_patch16_224", "crossvit_9_240", "efficientvim_m1_dist", "levit_384_s8"]
LARGE = ("_base", "_large", "_huge", "_giant", "_xlarge", "_xxlarge", "_b_", "_l_", "_5b")


def one_of_each_module():
    """The model of each module of timm whose name says least of being large."""
    chosen = []
    for module in timm.list_modules():
        models = [name for name in timm.list_models(module=module) if tm.PREFIX + name in tm.names()]
        small = [name for name in models if not any(part in f"{name}_" for part in LARGE)]
        if models:
            chosen.append(
                tm.PREFIX + min(small or models, key=lambda name: ("tiny" not in name, len(name), name))
            )
    return chosen


@pytest.fixture(scope="module", params=[*one_of_each_module(), *(tm.PREFIX + name for name in SEVERAL_HEADS)])
def network(request):
    """Every chosen model in turn, with its skeleton for seven classes."""
    row = tm.find(request.param)
    assert row is not None
    return row, skeleton(row, 7, row.preprocessing.crop)


def config_of(full):
    found = timm.get_pretrained_cfg(full)
    assert found is not None
    return found


def in_heads(row, model):
    return {f"{head}.{key}" for head in row.heads for key in model.get_submodule(head).state_dict()}


def test_every_module_of_timm_is_walked():
    assert len(one_of_each_module()) >= 90
    assert len(tm.names()) > 1000


def test_the_head_gives_a_logit_for_each_class_in_both_modes(network):
    row, model = network
    images = torch.empty(2, 3, row.preprocessing.crop, row.preprocessing.crop, device="meta")
    with torch.no_grad():
        assert model(images).shape == (2, 7)
        try:
            assert model.train()(images).shape == (
                2,
                7,
            )  # one tensor: those with several heads give their mean
        finally:
            model.eval()
    assert all(parameter.is_meta for parameter in model.parameters())


def test_only_the_heads_shapes_depend_on_the_number_of_classes(network):
    row, model = network
    own, others = (
        {key: tensor.shape for key, tensor in built.state_dict().items()}
        for built in (model, skeleton(row, 8, row.preprocessing.crop))
    )
    assert own.keys() == others.keys()
    assert {key for key in own if own[key] != others[key]} == in_heads(row, model)


def test_freezing_the_backbone_leaves_exactly_the_heads_parameters(network):
    row, model = network
    freezing = freezing_of(model, row.heads, FreezeBackbone(policy="backbone"), "eval")
    trained = {key for key, _ in model.named_parameters()} - set(freezing.parameters)
    assert trained == in_heads(row, model) & {key for key, _ in model.named_parameters()}


def test_the_blocks_go_from_the_input_to_the_heads_and_hold_everything(network):
    row, model = network
    found = blocks(model, row.containers, row.heads)
    assert len(found) >= 5
    assert within(row.heads, found[-1:])  # the last one is, or holds, a head
    freezing = freezing_of(model, row.heads, FreezeNone(policy="none"), "eval")
    lr = LrPlan.model_validate({"schedule": {"name": "constant", "lr": 1.0}, "layer_decay": 0.5})
    groups = groups_of(model, row.heads, row.containers, freezing, lr).groups
    held = [parameter for group in groups for parameter in group.parameters]
    assert sorted(held) == sorted(key for key, _ in model.named_parameters())
    counts = {key: parameter.numel() for key, parameter in model.named_parameters()}
    sizes = [sum(counts[p] for p in group.parameters if p not in in_heads(row, model)) for group in groups]
    assert max(sizes) <= 0.9 * sum(sizes), "one block holds nearly everything"


@pytest.mark.parametrize("name", SEVERAL_HEADS)
def test_several_heads_are_one_block(name):
    row = tm.find(tm.PREFIX + name)
    assert row is not None
    assert len(row.heads) > 1
    model = skeleton(row, 7, row.preprocessing.crop)
    found = blocks(model, row.containers, row.heads)
    lr = LrPlan.model_validate({"schedule": {"name": "constant", "lr": 1.0}, "layer_decay": 0.5})
    freezing = freezing_of(model, row.heads, FreezeNone(policy="none"), "eval")
    last = groups_of(model, row.heads, row.containers, freezing, lr).groups[-1]
    assert in_heads(row, model) <= set(last.parameters)
    assert len([block for block in found if within(row.heads, [block])]) == 1


def test_the_preprocessing_is_the_one_of_the_chosen_weights():
    row = tm.row("timm/resnet50")
    assert row is not None
    assert (row.weights[0], "DEFAULT" in row.weights) == (config_of("resnet50").tag, False)
    for tag in ("a1_in1k", "gluon_in1k", "fb_swsl_ig1b_ft_in1k"):
        config = resolve_data_config(pretrained_cfg=asdict(config_of(f"resnet50.{tag}")))
        told = tm.named_weights(row, tag).preprocessing
        assert (told.crop, told.interpolation) == (config["input_size"][1], config["interpolation"])
        assert (told.mean, told.std) == (config["mean"], config["std"])
        assert told.resize == int(told.crop / config["crop_pct"])


def test_every_named_weights_have_a_preprocessing():
    for name in tm.names():
        row = tm.row(name)
        assert row is not None
        for tag in row.weights:
            assert tm.named_weights(row, tag).preprocessing.crop > 0


def test_a_size_is_an_option_of_networks_that_are_made_for_one():
    row = tm.find("timm/test_vit")
    assert row is not None
    assert row.options(64) == {"img_size": 64}
    check_image_size(row, 64)
    with pytest.raises(SpecInvalid, match="does not take images of 70 pixels"):
        check_image_size(row, 70)


def spec_for(name, weights, **fields):
    stage = {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.05}}}
    backbone = {"name": name, "weights": weights}
    fields = {"stages": [stage], "batch_size": 8, "precision": "fp32", **fields}
    return JobSpec.model_validate({"dataset": {"path": "hues"}, "backbone": backbone, **fields})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Hugging Face's cache in a folder of ours, and no network; fills it with a model's random weights."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def fill(full):
        config = config_of(full)
        torch.manual_seed(8)
        state = timm.create_model(full, num_classes=config.num_classes).state_dict()
        repository = tmp_path / "hub" / f"models--{str(config.hf_hub_id).replace('/', '--')}"
        snapshot = repository / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
        safetensors.torch.save_file(state, snapshot / "model.safetensors")
        return state

    return fill


def test_weights_are_read_as_timm_reads_them_from_the_hub_s_cache(hub, tmp_path):
    row = tm.row(TINY)
    assert row is not None
    state = hub(f"test_resnet.{row.weights[0]}")
    blueprint = draw(spec_for(TINY, "DEFAULT"), Registry(), CLASSES, tmp_path, None)
    model = build(blueprint, seed=0, dropout=0.0)
    own = model.state_dict()
    changed = {n for n in own if own[n].shape != state[n].shape or not torch.equal(own[n], state[n])}
    assert changed == {"fc.weight", "fc.bias"}


def test_position_embeddings_are_resampled_to_the_job_s_image_size(hub, tmp_path):
    row = tm.row("timm/test_vit")
    assert row is not None
    state = hub(f"test_vit.{row.weights[0]}")
    blueprint = draw(spec_for("timm/test_vit", "DEFAULT", image_size=96), Registry(), CLASSES, tmp_path, None)
    model = build(blueprint, seed=0, dropout=0.0)
    assert model.get_parameter("pos_embed").shape[1] == 1 + (96 // 16) ** 2
    assert state["pos_embed"].shape[1] == 1 + (160 // 16) ** 2
    assert torch.equal(model.get_parameter("blocks.0.attn.qkv.weight"), state["blocks.0.attn.qkv.weight"])


def test_reading_weights_draws_nothing_from_torchs_generator(hub, tmp_path):
    row = tm.row(TINY)
    assert row is not None
    hub(f"test_resnet.{row.weights[0]}")
    blueprint = draw(spec_for(TINY, "DEFAULT"), Registry(), CLASSES, tmp_path, None)
    before = torch.get_rng_state()
    build(blueprint, seed=0, dropout=0.0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("hub")
def test_weights_that_cannot_be_downloaded_give_a_sentence(tmp_path):
    blueprint = draw(spec_for(TINY, "DEFAULT"), Registry(), CLASSES, tmp_path, None)
    with pytest.raises(WeightsNotFound) as missing:
        build(blueprint, seed=0, dropout=0.0)
    assert missing.value.message.startswith(f"the weights 'DEFAULT' of {TINY} could not be downloaded (")
    assert (missing.value.param, missing.value.code) == ("backbone.weights", "weights_not_found")


def test_an_unknown_tag_is_refused_with_the_closest(tmp_path):
    with pytest.raises(SpecInvalid, match="did you mean 'a1_in1k'"):
        draw(spec_for("timm/resnet50", "a1_in1"), Registry(), CLASSES, tmp_path, None)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("timm/resnet50.a1_in1k", 'name "timm/resnet50", with "weights": "a1_in1k"'),
        ("timm/qwen3_vit_88m_enc", "has no classifier of its own in timm"),
        ("timm/gemma4_vit_167m_enc", "has no classifier of its own in timm"),
        ("timm/resnet19", "did you mean 'timm/resnet1"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_reason(name, sentence):
    with pytest.raises(SpecInvalid, match=sentence) as refused:
        Registry().find(name)
    assert refused.value.param == "backbone.name"


def train(spec, folder, data_dir, weights_dir="."):
    events = finetune.train(spec, folder, data_dir=data_dir, weights_dir=weights_dir, device="cpu")
    return [event for event in events if isinstance(event, EpochEnded)][-1]


@pytest.mark.parametrize(
    ("name", "size"),
    [(TINY, 32), ("timm/test_vit", 32), ("timm/test_efficientnet", 32), ("timm/coat_lite_tiny", 32)],
)
def test_a_run_s_checkpoint_loads_in_plain_timm(name, size, data_dir, tmp_path):
    ended = train(spec_for(name, None, image_size=size), tmp_path, data_dir)
    with safetensors.safe_open(ended.checkpoint.weights, "pt") as file:
        about = file.metadata()
    model = timm.create_model(
        about["backbone"].removeprefix("timm/"), num_classes=3, **json.loads(about["backbone_options"])
    )
    model.load_state_dict(safetensors.torch.load_file(ended.checkpoint.weights))
    assert model.eval()(torch.zeros(1, 3, size, size)).shape == (1, 3)


def test_a_file_of_timm_s_weights_is_fine_tuned(data_dir, tmp_path):
    torch.manual_seed(4)
    state = timm.create_model("test_resnet").state_dict()
    safetensors.torch.save_file(state, tmp_path / "x.safetensors")
    stage = {
        "epochs": 1,
        "freeze": {"policy": "backbone"},
        "lr": {"schedule": {"name": "constant", "lr": 0.1}},
    }
    spec = spec_for(TINY, {"file": "x.safetensors"}, image_size=32, stages=[stage])
    ended = train(spec, tmp_path / "run", data_dir, tmp_path)
    trained = safetensors.torch.load_file(ended.checkpoint.weights)
    moved = {
        n for n in trained if trained[n].shape != state[n].shape or not torch.equal(trained[n], state[n])
    }
    assert moved == {"fc.weight", "fc.bias"}


ALONE = """
import sys
from pathlib import Path
right = count = 0
for photo in sorted(Path(sys.argv[1]).rglob("*.png")):
CLASSIFY
    right += classes[int(probabilities.argmax())] == photo.parent.name
    count += 1
print(right / count, [name for name in sys.modules if name.partition(".")[0] == "finetune"])
"""


def test_the_documented_lines_give_the_reported_accuracy_without_thaw(data_dir, tmp_path):
    document = (ROOT / "docs" / "loading.md").read_text()
    (lines, *_), (with_timm, *_) = (
        re.findall(rf"```{tag}\n(.*?)```", document, re.DOTALL) for tag in ("python", "py")
    )
    stage = {"epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.05}}}
    spec = spec_for("timm/test_vit", None, image_size=32, stages=[stage])
    ended = train(spec, tmp_path / "run", data_dir)
    ended.checkpoint.weights.rename(tmp_path / "best.safetensors")
    built, place = re.subn(r"model = get_model\(.*?\n\)\n", lambda _: with_timm, lines, flags=re.DOTALL)
    assert place == 1
    head, _, tail = built.partition("image = ImageOps.")
    body = textwrap.indent(f"image = ImageOps.{tail}", "    ").replace('"photo.jpg"', "photo")
    script = head + ALONE.replace("CLASSIFY", body)
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(data_dir / "hues" / "val")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    accuracy, ours = done.stdout.splitlines()[-1].split(" ", 1)
    assert float(accuracy) == pytest.approx(ended.record.val["accuracy"], abs=1e-4)
    assert ours == "[]"


WITHOUT_TIMM = """
import sys
sys.modules["timm"] = None  # what Python does with a module that is not there
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "timm" else found(name, *rest)
from finetune.backbones import Registry
from finetune.errors import SpecInvalid
assert not any(name.startswith("timm/") for name in Registry().names())
assert Registry().find("resnet18").name == "resnet18"
try:
    Registry().find("timm/resnet18")
except SpecInvalid as error:
    print(error.message)
"""


def test_where_timm_is_not_installed_the_refusal_says_how_to_get_it():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TIMM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "the backbone 'timm/resnet18' needs timm, which is not installed here: pip install 'thaw[timm]'"
    )


def test_timm_is_loaded_only_for_its_own_names():
    code = (
        "import sys; from finetune.backbones import Registry; Registry().find('resnet18'); "
        "assert 'timm' not in sys.modules; Registry().names(); assert 'timm' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
