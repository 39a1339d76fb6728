import asyncio

import pytest

from app.errors import TimedOut
from app.patience import patient


def receiver(*steps):
    """Gives the messages, each after so many seconds."""
    left = list(steps)

    async def receive():
        seconds, message = left.pop(0)
        await asyncio.sleep(seconds)
        return message

    return receive


def piece(content, more=True):
    return {"type": "http.request", "body": content, "more_body": more}


def read(receive, times):
    async def run():
        return [await receive() for _ in range(times)]

    return asyncio.run(run())


def test_a_body_in_time_comes_through():
    messages = [piece(b"a"), piece(b"b", more=False)]
    assert read(patient(receiver(*((0.0, m) for m in messages)), 5), 2) == messages


def test_silence_ends_it():
    with pytest.raises(TimedOut, match="too slowly"):
        read(patient(receiver((0, piece(b"a")), (60, piece(b"b"))), 0.05), 2)


def test_a_trickle_ends_it_though_it_never_stops():
    with pytest.raises(TimedOut, match="too slowly"):
        read(patient(receiver(*[(0.04, piece(b"a"))] * 50), 0.2), 50)


def test_what_the_server_does_with_a_piece_costs_the_client_nothing():
    async def run():
        receive = patient(receiver((0, piece(b"a")), (0, piece(b"b"))), 0.05)
        await receive()
        await asyncio.sleep(0.2)
        return await receive()

    assert asyncio.run(run())["body"] == b"b"


def test_behind_the_body_it_waits_as_long_as_it_takes():
    steps = (0, piece(b"", more=False)), (0.3, {"type": "http.disconnect"})
    assert read(patient(receiver(*steps), 0.05), 2)[-1]["type"] == "http.disconnect"
