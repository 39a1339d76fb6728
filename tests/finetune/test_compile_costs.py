import pytest

from finetune.cache import Cache
from finetune.compile_costs import Costs, KeptCosts, too_few, too_short

FASTER = Costs(compile=25.0, eager=0.6, compiled=0.5)
SLOWER = Costs(compile=25.0, eager=0.5, compiled=0.53)


def test_compiling_pays_where_what_the_batches_save_is_more_than_it_takes():
    assert str(FASTER.judge(249)) == (
        "off: 249 batches of 0.5 s instead of 0.6 s do not repay 25 s of compiling"
    )
    assert str(FASTER.judge(251)) == "on: 251 batches of 0.5 s instead of 0.6 s repay 25 s of compiling"


def test_what_makes_a_batch_slower_never_pays():
    assert not SLOWER.judge(10**9).compiled


def test_nothing_is_measured_for_a_few_batches_or_for_short_ones():
    assert too_few(200) is None
    assert str(too_few(199)).startswith("off: 199 batches are too few")
    assert too_short(2000, 0.6) is None
    assert str(too_short(2000, 0.5)).startswith("off: 2,000 batches of 0.5 s are too short")


def test_costs_are_kept_by_all_that_they_depend_on(tmp_path):
    KeptCosts(Cache(tmp_path, 10**6)).keep(FASTER, "resnet18", 32)
    kept = KeptCosts(Cache(tmp_path, 10**6))
    assert kept.find("resnet18", 32) == FASTER
    assert kept.find("resnet18", 64) is None
    assert KeptCosts(None).find("resnet18", 32) is None


@pytest.mark.parametrize("content", [b"", b"no json", b'{"seconds": 3}', b"[1]"])
def test_costs_that_cannot_be_read_are_none(tmp_path, content):
    class Odd(Cache):
        def get(self, kind, key):
            return bytearray(content)

    assert KeptCosts(Odd(tmp_path, 10**6)).find("resnet18") is None
