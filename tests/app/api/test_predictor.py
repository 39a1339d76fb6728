"""The predictor dies, is slow, has much to do, and ends with the server."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from app.predictor import MOST_WAITING


def test_a_predictor_that_was_killed_between_requests_is_started_anew(predict, pictures, predictor):
    before = predict(pictures[0]).json()["data"]
    pid = predictor()
    os.kill(pid, signal.SIGKILL)
    assert predict(pictures[0]).json()["data"] == before
    assert predictor() not in (None, pid)


def test_a_request_whose_predictor_is_killed_is_answered_by_the_next_one(
    predict, pictures, predictor, asleep
):
    assert predict(pictures[0], job="sleepy").status_code == 200
    with asleep() as sleep, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(predict, pictures[0], job="sleepy")
        killed = sleep.next()
        assert killed == predictor()
        sleep.end()
        os.kill(killed, signal.SIGKILL)
        assert asked.result(120).status_code == 200
    assert predictor() not in (None, killed)


def test_a_request_that_every_predictor_dies_on_gets_a_503_and_the_next_one_an_answer(
    predict, pictures, fails, predictor, asleep
):
    with asleep() as sleep, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(predict, pictures[0], job="sleepy")
        for _ in range(2):
            os.kill(sleep.next(), signal.SIGKILL)
        fails(asked.result(120), 503, "unavailable", "the predictor ended", "try again")
    assert predict(pictures[0], job="sleepy").status_code == 200


def test_while_a_network_is_slow_the_server_answers_and_refuses_more_than_it_can_hold(
    thaw, http, until, predict, pictures, fails, predictor, asleep
):
    with asleep() as sleep, ThreadPoolExecutor(2 * MOST_WAITING) as pool:
        asked = [pool.submit(predict, pictures[0], job="sleepy")]
        sleep.next()
        asked += [pool.submit(predict, pictures[0], job="sleepy") for _ in range(MOST_WAITING + 4)]
        # Whoever waits for the predictor takes no thread from the others.
        assert http.get(f"/v1/jobs/{thaw.jobs['sleepy']}").status_code == 200
        full = until(lambda: next((each.result() for each in asked if each.done()), None), 60, "all is full")
        fails(full, 503, "unavailable", "the predictor is busy")
        assert http.get("/readyz").status_code == 200
        sleep.end()
        assert {future.result(120).status_code for future in asked} <= {200, 503}
        assert asked[0].result().status_code == 200
    assert predict(pictures[0]).status_code == 200


def test_many_clients_at_once_get_each_their_own_answer(predict, pictures):
    alone = [predict(content).json()["data"][0]["classes"] for content in pictures]

    def ask(number):
        (item,) = predict(pictures[number % len(pictures)]).json()["data"]
        return item["classes"]

    with ThreadPoolExecutor(16) as pool:
        for number, classes in enumerate(pool.map(ask, range(100))):
            assert classes == alone[number % len(pictures)]


def test_a_server_that_stops_leaves_no_process_behind_also_while_one_predicts(
    thaw, proc, until, predict, pictures, fails, predictor, asleep
):
    with asleep() as sleep, ThreadPoolExecutor(1) as pool:
        before = len(thaw.log("server"))
        asked = pool.submit(predict, pictures[0], job="sleepy")
        sleep.next()
        left = proc.descendants(thaw.server.pid)
        assert predictor() in left
        thaw.server.terminate()
        thaw.server.wait(30)
        until(lambda: not any(map(proc.alive, left)), 20, "its processes have ended")
        fails(asked.result(30), 503, "unavailable", "the server ends")
    assert "Traceback" not in thaw.log("server")[before:]
    thaw.settings["THAW_BACKBONES"] = thaw.settings["THAW_BACKBONES"].replace(",sleepy:backbone", "")
    thaw.server = thaw.serve()
    assert predict(pictures[0]).status_code == 200
    fails(predict(pictures[0], job="sleepy"), 409, "invalid_spec", "does not have", "'sleepy'")
