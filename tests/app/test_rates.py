from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app import rates
from app.rates import Rates, caller_of

FAIR = pytest.mark.promise("Whoever asks too often is told when to ask again, and the others are answered")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_burst_passes_and_then_so_many_a_second(clock):
    rates = Rates(10, clock)
    assert [rates.take("a") for _ in range(20)] == [None] * 20
    assert rates.take("a") == 1
    clock.now += 0.5
    assert [rates.take("a") for _ in range(6)] == [None] * 5 + [1]
    clock.now += 1000
    assert [rates.take("a") for _ in range(21)] == [None] * 20 + [1]


def test_a_slow_rate_says_how_long_it_takes(clock):
    rates = Rates(0.1, clock)
    assert rates.take("a") is None
    assert rates.take("a") == 10
    clock.now += 7
    assert rates.take("a") == 3
    clock.now += 3
    assert rates.take("a") is None


def test_callers_do_not_wait_for_one_another(clock):
    rates = Rates(0.5, clock)
    assert [rates.take(caller) for caller in ("a", "b", "a", "b")] == [None, None, 2, 2]


def test_no_rate_is_no_limit(clock):
    rates = Rates(0, clock)
    assert all(rates.take("a") is None for _ in range(1000))


def test_callers_are_not_remembered_without_end(clock, monkeypatch):
    monkeypatch.setattr(rates, "MOST_CALLERS", 3)
    limit = Rates(0.5, clock)
    for caller in ("a", "b", "c", "a", "d"):
        limit.take(caller)
    assert len(limit._buckets) == 3
    assert limit.take("a") is not None  # who goes on asking is not forgotten for it


@pytest.mark.parametrize(
    ("scope", "caller"),
    [
        ({"client": ("10.0.0.1", 5000)}, "10.0.0.1"),
        ({"client": ("10.0.0.1", 5000), "state": {}}, "10.0.0.1"),
        ({"client": ("2001:db8:1:2:3::4", 5000)}, "2001:db8:1:2::/64"),
        ({"client": ("::ffff:10.0.0.1", 5000)}, "10.0.0.1"),
        ({"client": ("fe80::1%eth0", 5000)}, "fe80::/64"),
        ({"client": None}, "nobody"),
        ({}, "nobody"),
    ],
)
def test_a_caller_is_an_address_or_a_network(scope, caller):
    assert caller_of(scope) == caller


@FAIR
def test_the_server_refuses_what_is_too_often_and_says_when_to_ask_again(make_house, tried):
    house = make_house(requests_per_second=5, proxies="127.0.0.1")
    house.serve()
    with httpx.Client(base_url=house.url, trust_env=False) as client, ThreadPoolExecutor(8) as pool:
        ask = lambda who: client.get("/healthz", headers={"X-Forwarded-For": who})  # noqa: E731
        answers = list(pool.map(ask, ["203.0.113.1"] * 100))
        assert client.get("/healthz", headers={"X-Forwarded-For": "203.0.113.2"}).status_code == 200
    tried(100)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert len(refused) >= 50  # a burst of ten, and five a second
    for answer in refused:
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["X-Request-ID"]
        assert answer.json()["error"]["code"] == "too_many_requests"


@FAIR
def test_nobody_takes_another_s_address_where_no_proxy_is_named(make_house):
    house = make_house(requests_per_second=2)
    house.serve()
    with httpx.Client(base_url=house.url, trust_env=False) as client:
        answers = [client.get("/healthz", headers={"X-Forwarded-For": f"203.0.113.{n}"}) for n in range(60)]
    assert 429 in {answer.status_code for answer in answers}
