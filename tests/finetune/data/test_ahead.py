import threading
import time

import pytest
import torch

from finetune.data.ahead import ahead, copied_ahead
from finetune.data.loading import Batch


def threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("ahead")}


def test_everything_comes_in_its_order():
    assert list(ahead(iter(range(50)))) == list(range(50))
    assert list(ahead(iter([]))) == []
    assert list(ahead(iter([None, 0, [], None]))) == [None, 0, [], None]


def test_one_item_is_made_while_the_one_before_is_used_and_no_more(until):
    made = []

    def make():
        for number in range(10):
            made.append(number)
            yield number

    items = ahead(make())
    for number in range(8):
        assert next(items) == number
        until(lambda number=number: len(made) == number + 2, 10, "the next one is made")
    time.sleep(0.05)
    assert made == list(range(9))
    items.close()


def test_the_maker_works_in_another_thread_with_one_core_and_leaves_the_others_their_cores():
    torch.set_num_threads(2)
    try:
        maker = next(ahead((threading.get_ident(), torch.get_num_threads()) for _ in range(3)))
        assert maker[0] != threading.get_ident()
        assert maker[1] == 1
        assert torch.get_num_threads() == 2
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    finally:
        torch.set_num_threads(1)


class Broken(Exception):
    pass


def test_what_the_maker_raises_is_raised_where_its_item_was_due():
    def make():
        yield 1
        yield 2
        raise Broken("here")

    with pytest.raises(Broken, match="here"):
        list(ahead(make()))
    assert not threads()
    items = ahead(make())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(Broken):
        next(items)
    assert not threads()


def test_no_thread_is_left_when_it_ends_is_closed_or_is_forgotten():
    list(ahead(iter(range(3))))
    assert not threads()
    closed = ahead(iter(range(3)))
    next(closed)
    assert len(threads()) == 1
    closed.close()
    assert not threads()
    forgotten = ahead(iter(range(3)))
    next(forgotten)
    del forgotten
    assert not threads()


def test_an_error_of_who_uses_it_ends_the_thread():
    def use():
        for number in ahead(iter(range(100))):
            if number == 3:
                raise Broken

    with pytest.raises(Broken):
        use()
    assert not threads()


def test_what_is_never_asked_for_is_never_begun():
    ahead(iter([1]))
    assert not threads()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_batches_that_a_gpu_copies_ahead_are_the_batches():
    def make():
        for number in range(20):
            images = torch.full((8, 3, 64, 64), number, dtype=torch.uint8)
            yield Batch(images, torch.tensor([number])).pin_memory()

    for number, batch in enumerate(copied_ahead(make(), torch.device("cuda"))):
        assert batch.images.device.type == batch.labels.device.type == "cuda"
        assert bool((batch.images == number).all())
        assert batch.labels.tolist() == [number]
