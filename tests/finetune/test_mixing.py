import pytest
import torch
from pydantic import TypeAdapter
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from finetune.feeds import Labelled
from finetune.mixing import MIXES, mixing_of
from finetune.spec.augmentations import Mix
from finetune.spec.objectives import BinaryCrossEntropy, CrossEntropy, Focal

CLASSES = 5
LABELS = torch.tensor([3, 0, 2, 4, 1, 0])
BEFORE = LABELS.roll(1)  # no image has the label of the one before it, so that shares tell who was mixed
BOTH = ["mixup", "cutmix"]


def mixing(name, **fields):
    mix = mixing_of(TypeAdapter(Mix).validate_python({"name": name, **fields}), CLASSES)
    return lambda images, labels: mix(Labelled(images, labels))[:2]


def batch(count=6, side=16):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(5))


def mixed(name, seed=0, labels=LABELS, **fields):
    torch.manual_seed(seed)
    return mixing(name, **fields)(batch(len(labels)), labels)


def share_of_own(shares):
    """What each image kept of itself, read off the labels."""
    return shares.gather(1, LABELS[:, None])[:, 0]


def test_every_mix_of_the_spec_has_a_row():
    assert {type(TypeAdapter(Mix).validate_python(name)) for name in BOTH} == set(MIXES)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("seed", range(20))
def test_the_shares_are_of_the_images_own_class_and_of_the_one_before_it_and_add_up_to_one(name, seed):
    images, shares = mixed(name, seed, alpha=1.0)
    assert images.shape == (6, 3, 16, 16)
    assert (shares.shape, shares.dtype) == ((6, CLASSES), torch.float32)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    own, other = share_of_own(shares), shares.gather(1, BEFORE[:, None])[:, 0]
    assert own.min() == own.max()
    torch.testing.assert_close(own + other, torch.ones(6))


@pytest.mark.parametrize("seed", range(10))
def test_mixup_blends_each_image_with_the_one_before_it_by_the_shares(seed):
    images, shares = mixed("mixup", seed, alpha=1.0)
    share = share_of_own(shares)[0]
    expected = share * batch() + (1 - share) * batch().roll(1, 0)
    torch.testing.assert_close(images, expected)
    assert 0.01 < share < 0.99


@pytest.mark.parametrize("seed", range(10))
def test_cutmix_takes_a_box_of_the_image_before_whose_area_is_the_share(seed):
    images, shares = mixed("cutmix", seed)
    taken = (images == batch().roll(1, 0)).all(1)
    assert torch.equal(taken, taken[:1].expand_as(taken)), "one box for the whole batch"
    assert torch.equal(images, torch.where(taken[:, None], batch().roll(1, 0), batch()))
    rows, columns = taken[0].any(1), taken[0].any(0)
    assert torch.equal(taken[0], rows[:, None] & columns)
    torch.testing.assert_close(share_of_own(shares), 1 - taken.float().mean((1, 2)))


def test_cutmix_takes_boxes_of_many_sizes():
    areas = {round(float(share_of_own(mixed("cutmix", seed)[1])[0]), 4) for seed in range(30)}
    assert len(areas) > 15


@pytest.mark.parametrize("name", BOTH)
def test_alpha_says_how_even_the_shares_are(name):
    def evenness(alpha):
        owns = torch.tensor([float(share_of_own(mixed(name, seed, alpha=alpha)[1])[0]) for seed in range(60)])
        return float((1 - (2 * owns - 1).abs()).mean())

    assert evenness(0.1) < evenness(1.0) < evenness(50.0)


@pytest.mark.parametrize("name", BOTH)
def test_the_mixture_depends_on_torchs_seed_alone(name):
    again = [mixed(name, 7) for _ in range(2)]
    other = mixed(name, 8)
    assert all(torch.equal(a, b) for a, b in zip(*again, strict=True))
    assert not torch.equal(again[0][0], other[0])


@pytest.mark.parametrize("name", BOTH)
def test_the_draw_is_the_cpus_whatever_the_images_device(name):
    """On the meta device nothing can be drawn that a value depends on."""
    torch.manual_seed(3)
    mixing(name)(batch(), LABELS)
    after = torch.rand(3)
    torch.manual_seed(3)
    mixing(name)(batch().to("meta"), torch.zeros(6, CLASSES, device="meta"))
    assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize("name", BOTH)
def test_the_batch_that_was_given_and_its_memory_format_stay(name):
    images = batch().contiguous(memory_format=torch.channels_last)
    given, labels = images.clone(), LABELS.clone()
    torch.manual_seed(0)
    result, _ = mixing(name)(images, labels)
    assert torch.equal(images, given)
    assert torch.equal(labels, LABELS)
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", BOTH)
def test_one_image_alone_stays_as_it_is(name):
    images, shares = mixed(name, labels=LABELS[:1])
    assert torch.equal(images, batch(1))
    assert shares.tolist() == [[0, 0, 0, 1, 0]]


@pytest.mark.parametrize("name", BOTH)
def test_images_with_several_labels_get_shares_of_all_of_them(name):
    several = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [1, 0, 0, 0, 1]])
    torch.manual_seed(0)
    images, shares = mixing(name, alpha=1.0)(batch(4), several)
    torch.manual_seed(0)
    same_images, hard = mixing(name, alpha=1.0)(batch(4), LABELS[:4])
    share = hard[0, LABELS[0]]
    assert torch.equal(images, same_images)
    torch.testing.assert_close(shares, share * several + (1 - share) * several.roll(1, 0))


def test_without_a_mix_images_and_hard_labels_go_through():
    given = Labelled(batch(), LABELS)
    assert mixing_of(None, CLASSES)(given) is given


class Data:
    """As much of a dataset as an objective looks at."""

    classes = tuple("abcde")
    train = range(100)

    @staticmethod
    def class_counts():
        return [10, 40, 20, 5, 25]


def objective(kind=CrossEntropy, **fields):
    from finetune import objectives

    return objectives.build(kind(**fields), Data, torch.device("cpu"))  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(name, smoothing):
    logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(1))
    _, shares = mixed(name, 2, alpha=1.0)
    share, loss = share_of_own(shares)[0], objective(label_smoothing=smoothing).loss
    expected = share * loss(logits, LABELS) + (1 - share) * loss(logits, BEFORE)
    torch.testing.assert_close(loss(logits, shares), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_class_weights_each_class_of_a_mixture_counts_by_its_weight(smoothing):
    """Of shares torch's mean is over the images; of hard labels it is over their weights."""
    logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(1))
    _, shares = mixed("mixup", 2, alpha=1.0)
    share = share_of_own(shares)[0]
    weights = sum(Data.class_counts()) / (CLASSES * torch.tensor(Data.class_counts()))
    weighted = objective(label_smoothing=smoothing, class_weights="balanced").loss

    def total(labels):
        return weighted(logits, labels) * weights[labels].sum()

    expected = (share * total(LABELS) + (1 - share) * total(BEFORE)) / len(LABELS)
    torch.testing.assert_close(weighted(logits, shares), expected)
    if not smoothing:
        by_hand = -(weights * shares * F.log_softmax(logits, 1)).sum() / len(LABELS)
        torch.testing.assert_close(weighted(logits, shares), by_hand)


WEIGHTS = torch.tensor([1.0, 0.25, 3.0, 1e-6, 40.0, 1.0])
KINDS = [
    (CrossEntropy, {}),
    (CrossEntropy, {"label_smoothing": 0.1}),
    (CrossEntropy, {"class_weights": "balanced"}),
    (Focal, {"name": "focal", "class_weights": "balanced"}),
    (BinaryCrossEntropy, {"name": "binary_cross_entropy", "class_weights": "balanced"}),
]


def weighed(name, seed=2):
    torch.manual_seed(seed)
    mix = mixing_of(TypeAdapter(Mix).validate_python({"name": name, "alpha": 1.0}), CLASSES)
    return mix(Labelled(batch(), LABELS, WEIGHTS))


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(("kind", "fields"), KINDS, ids=[f"{k.__name__} {f}" for k, f in KINDS])
def test_each_label_of_a_mixture_counts_by_its_share_and_by_the_weight_of_its_own_image(name, kind, fields):
    counted = objective(kind, **fields)
    logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(1))
    share = share_of_own(mixed(name, 2, alpha=1.0)[1])[0]
    _, shares, weights = weighed(name)
    assert weights is not None
    torch.testing.assert_close(weights, share * WEIGHTS + (1 - share) * WEIGHTS.roll(1))

    def total(labels, of_images):
        """The sum of the weighted losses, image by image, of which torch's means over shares are made."""
        hard = F.one_hot(labels, CLASSES).float()
        own = [counted.loss(logits[[i]], hard[[i]]) * of_images[i] for i in range(6)]
        return torch.stack(own).sum()

    both = share * total(LABELS, WEIGHTS) + (1 - share) * total(BEFORE, WEIGHTS.roll(1))
    torch.testing.assert_close(counted.loss(logits, shares, weights), both / WEIGHTS.sum())
    torch.testing.assert_close(counted.weight(shares, weights), WEIGHTS.sum())


@pytest.mark.parametrize("name", BOTH)
def test_weights_change_nothing_of_how_images_are_mixed(name):
    images, shares, _ = weighed(name)
    plain, _ = mixed(name, 2, alpha=1.0)
    assert torch.equal(images, plain)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert shares[3, LABELS[3]] < 1e-4  # its weight is next to nothing, whatever its part of the image


@pytest.mark.parametrize("name", BOTH)
def test_one_image_alone_keeps_its_weight(name):
    mix = mixing_of(TypeAdapter(Mix).validate_python(name), CLASSES)
    _, shares, weights = mix(Labelled(batch(1), LABELS[:1], WEIGHTS[1:2]))
    assert shares.tolist() == [[0, 0, 0, 1, 0]]
    assert weights is not None
    assert weights.tolist() == [0.25]
