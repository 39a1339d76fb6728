import random

import torch

from finetune.device import Compute


def test_seed_gives_the_numbers_that_torch_s_own_gives():
    compute = Compute(torch.device("cpu"), "fp32")
    for seed in (0, 7, random.Random(1).getrandbits(63)):
        torch.manual_seed(seed)
        expected = torch.rand(5), torch.nn.functional.dropout(torch.ones(20))
        torch.rand(3)
        compute.seed(seed)
        assert torch.equal(torch.rand(5), expected[0])
        assert torch.equal(torch.nn.functional.dropout(torch.ones(20)), expected[1])
