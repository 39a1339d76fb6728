import dataclasses
import random
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

from finetune import freezing as freezings
from finetune.backbones import Registry, skeleton
from finetune.boundary import Cut, HeadInput
from finetune.freezing import freezing_of
from finetune.spec import StageSpec
from finetune.still_part import NoBoundary, boundary_of


@pytest.fixture
def cut(registry):
    """The boundary of a network of 16 pixels under a policy, and the policy's freezing."""

    def of(freeze, name="tiny", rows=registry, batch_norm="eval"):
        row = rows.find(name)
        stage = StageSpec.model_validate(
            {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}, "freeze": freeze}
        )
        freezing = freezing_of(skeleton(row, 3, 16), row.heads, stage.freeze, batch_norm)
        return boundary_of(row, 3, 16, 16, freezing), freezing

    return of


FOUND = [
    ({"policy": "backbone"}, "head", (8,)),
    ({"policy": "except", "modules": ["head"]}, "head", (8,)),
    ({"policy": "before", "module": "head"}, "head", (8,)),
    ({"policy": "before", "module": "body"}, "body", (4, 8, 8)),
    ({"policy": "before", "module": "body.1"}, "body.1", (8, 4, 4)),
    ({"policy": "modules", "modules": ["stem.0"]}, "stem.1", (4, 8, 8)),
    ({"policy": "modules", "modules": ["stem", "body.0.*"]}, "body.1", (8, 4, 4)),
    ({"policy": "modules", "modules": ["stem", "body.1"]}, "body.0", (4, 8, 8)),
]


@pytest.mark.parametrize(("freeze", "before", "shape"), FOUND, ids=[str(freeze) for freeze, *_ in FOUND])
def test_the_boundary_is_the_last_place_up_to_which_all_stands_still(cut, freeze, before, shape):
    boundary, _ = cut(freeze)
    assert isinstance(boundary, Cut)
    assert (boundary.before, boundary.shape) == (before, shape)


def test_multiply_adds_are_counted_on_either_side(cut):
    boundary, _ = cut({"policy": "before", "module": "body.1"})
    assert boundary.prefix_cost == 8 * 8 * 4 * 27 + 4 * 4 * 8 * 36
    assert boundary.suffix_cost == 4 * 4 * 8 * 72 + 8 * 3


def test_a_batch_norm_that_follows_the_data_does_not_stand_still(cut):
    boundary, _ = cut({"policy": "backbone"}, batch_norm="update")
    assert boundary.before == "stem.1"


@pytest.mark.parametrize("freeze", [{"policy": "none"}, {"policy": "modules", "modules": ["head"]}])
def test_without_a_still_beginning_there_is_no_boundary_and_it_says_before_what(cut, freeze):
    with pytest.raises(NoBoundary, match=r"^nothing before stem(\.0)? stands still$"):
        cut(freeze)


@pytest.mark.parametrize(("freeze", "before", "shape"), FOUND, ids=[str(freeze) for freeze, *_ in FOUND])
@pytest.mark.parametrize("training", [True, False])
def test_both_sides_one_after_the_other_give_what_the_network_gives(
    registry, cut, freeze, before, shape, training
):
    boundary, freezing = cut(freeze)
    torch.manual_seed(0)
    model, images = registry.find("tiny").make(3, 16), torch.randn(6, 3, 16, 16)
    freezings.apply(model, freezing)
    model.train(model.training and training)
    if training:
        freezings.set_training_mode(model, freezing)
    results = []
    for forward in (model, lambda images: boundary.suffix(model)(boundary.prefix(model)(images))):
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        torch.manual_seed(1)
        model.zero_grad()
        logits = forward(images)
        logits.square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((logits, gradients, {name: t.clone() for name, t in model.state_dict().items()}))
        model.load_state_dict(state)
        if training:
            freezings.set_training_mode(model, freezing)
    (whole, gradients, after), (halves, others, then) = results
    assert torch.equal(whole, halves)
    assert gradients.keys() == others.keys() == set(freezing_names(model, freezing))
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)
    assert all(torch.equal(after[name], then[name]) for name in after)


def freezing_names(model, freezing):
    return [name for name, _ in model.named_parameters() if name not in freezing.parameters]


def test_nothing_behind_the_boundary_runs_for_the_features(registry, cut):
    boundary, _ = cut({"policy": "before", "module": "body"})
    model, ran = registry.find("tiny").make(3, 16), []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    boundary.prefix(model)(torch.randn(2, 3, 16, 16))
    assert ran == ["stem.0", "stem.1", "stem.2", "stem"]


def test_still_are_the_tensors_of_the_prefix_and_no_others(registry, cut):
    boundary, _ = cut({"policy": "before", "module": "body"})
    model = registry.find("tiny").make(3, 16)
    expected = {name for name in model.state_dict() if name.startswith("stem")}
    assert boundary.still(model).keys() == expected


def custom(registry, build):
    row = dataclasses.replace(registry.find("tiny"), name="custom", build=build, containers=())
    return Registry({"custom": row})


class Own(nn.Module):
    """A head behind what `way` makes of the images and two modules."""

    def __init__(self, num_classes):
        super().__init__()
        self.stem, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, num_classes)


class Looking(Own):
    def forward(self, images):
        if len(images) > 100_000:
            raise ValueError("too many")
        return self.head(self.stem(images).mean((2, 3)))


class Counting(Own):
    calls = 0

    def forward(self, images):
        self.calls += 1
        return self.head(self.stem(images).mean((2, 3)))


class Gambling(Own):
    def forward(self, images):
        return self.head(self.stem(images).mean((2, 3)) * random.choice((1, 2)))


class Making(Own):
    def forward(self, images):
        return self.head(self.stem(images).mean((2, 3)) + torch.ones(4))


@pytest.mark.parametrize("build", [Looking, Counting, Gambling])
def test_where_code_cannot_be_followed_the_heads_input_is_the_boundary(registry, cut, build):
    rows = custom(registry, build)
    boundary, _ = cut({"policy": "backbone"}, "custom", rows)
    assert isinstance(boundary, HeadInput)
    assert (boundary.before, boundary.shape) == ("head", (4,))
    assert (boundary.prefix_cost, boundary.suffix_cost) == (14 * 14 * 4 * 27, 12)
    with pytest.raises(NoBoundary, match="cannot be followed"):
        cut({"policy": "modules", "modules": ["stem"]}, "custom", rows)


def test_the_heads_input_is_what_the_head_takes_and_leaves_no_hook(registry, cut):
    boundary, _ = cut({"policy": "backbone"}, "custom", custom(registry, Looking))
    model, images = Looking(3).eval(), torch.randn(5, 3, 16, 16)
    taken = boundary.prefix(model)(images)
    assert torch.equal(boundary.suffix(model)(taken), model(images))
    assert not model.head._forward_pre_hooks
    assert boundary.still(model).keys() == {"stem.weight", "stem.bias", "other.weight", "other.bias"}


class Scaled(Looking):
    def forward(self, images):
        return super().forward(images) * 2


class Valued(Own):
    def forward(self, images):
        return self.head(images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3)))


class DroppingUnseen(Looking):
    """Drops out above its modules, which is in training mode where all in it is frozen but the head."""

    def forward(self, images):
        if len(images) > 100_000:
            raise ValueError("too many")
        return self.head(functional.dropout(self.stem(images).mean((2, 3)), 0.5, self.training))


@pytest.mark.parametrize("build", [Scaled, Valued, Making, DroppingUnseen])
def test_no_boundary_where_neither_the_code_nor_the_heads_output_can_be_followed(registry, cut, build):
    with pytest.raises(NoBoundary, match="cannot be followed"):
        cut({"policy": "backbone"}, "custom", custom(registry, build))


class Residual(Own):
    def forward(self, images):
        first = self.stem(images)
        return self.head((first + self.other(images)).mean((2, 3)))


class Dropping(Own):
    def forward(self, images):
        return self.head(nn.functional.dropout(self.stem(images), 0.5, self.training).mean((2, 3)))


class Refusing(Own):
    def forward(self, images):
        torch._assert(images.shape[1] == 3, "three channels")
        return self.head(self.stem(images).mean((2, 3)))


def test_where_two_tensors_cross_there_is_no_boundary(registry, cut):
    rows = custom(registry, Residual)
    with pytest.raises(NoBoundary, match="more than one tensor"):
        cut({"policy": "modules", "modules": ["stem"]}, "custom", rows)
    assert cut({"policy": "backbone"}, "custom", rows)[0].before == "head"


def test_what_draws_in_training_is_behind_the_boundary(registry, cut):
    boundary, _ = cut({"policy": "backbone"}, "custom", custom(registry, Dropping))
    assert boundary.shape == (4, 14, 14)


def test_an_assertion_on_the_images_is_in_no_ones_way(registry, cut):
    boundary, _ = cut({"policy": "backbone"}, "custom", custom(registry, Refusing))
    model, images = Refusing(3).eval(), torch.randn(2, 3, 16, 16)
    assert torch.equal(boundary.suffix(model)(boundary.prefix(model)(images)), model(images))


def test_other_threads_batches_do_not_confuse_the_tracing(registry, cut):
    model, over, wrong = skeleton(registry.find("tiny"), 3, 16), threading.Event(), []

    def keep_busy():
        while not over.is_set():
            with torch.no_grad():
                shape = model(torch.empty(2, 3, 16, 16, device="meta")).shape
            if shape != (2, 3):
                wrong.append(shape)

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        from finetune import still_part

        for freeze, before, _ in FOUND * 3:
            still_part._found.cache_clear()
            assert cut(freeze)[0].before == before
    finally:
        over.set()
        thread.join()
    assert not wrong


def test_the_signature_is_the_same_in_another_process_and_differs_with_the_way(cut):
    boundary, _ = cut({"policy": "backbone"})
    assert "0x" not in boundary.signature
    assert boundary.signature != cut({"policy": "before", "module": "body"})[0].signature
