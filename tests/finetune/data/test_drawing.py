import threading

import torch
from torchvision.transforms import v2

from finetune.data.drawing import drawing_from


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws():
    return torch.rand(3), torch.randint(100, (3,)), torch.randperm(5), torch.empty(3).uniform_(0, 1)


def test_what_is_drawn_is_the_generators_own():
    with drawing_from(generator()):
        drawn = draws()
    torch.manual_seed(0)
    assert all(torch.equal(one, other) for one, other in zip(drawn, draws(), strict=True))


def test_torchs_generator_is_left_alone_by_every_operation_of_torchvision():
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    operations = v2.TrivialAugmentWide(), v2.RandAugment(num_ops=4)
    before = torch.random.get_rng_state()
    for seed in range(200):
        with drawing_from(generator(seed)):
            for operation in operations:
                operation(image)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_generator_that_is_named_draws_by_itself():
    with drawing_from(generator(0)):
        assert torch.equal(torch.rand(3, generator=generator(1)), torch.rand(3, generator=generator(1)))


def test_other_threads_draw_as_ever():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    seen = []
    with drawing_from(generator(0)):
        thread = threading.Thread(target=lambda: seen.append(torch.rand(3)))
        thread.start()
        thread.join()
    assert torch.equal(seen[0], expected)
