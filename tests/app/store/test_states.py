from app.store.states import ACTIVE, ENDED, GIVEN_BACK, TRANSITIONS, Status, sources


def test_every_status_says_where_it_may_lead():
    assert set(TRANSITIONS) == set(Status)


def test_ended_jobs_lead_nowhere():
    assert {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED} == ENDED
    assert all(TRANSITIONS[status] == frozenset() for status in ENDED)


def test_cancelling_leads_to_cancelled_alone():
    assert TRANSITIONS[Status.CANCELLING] == {Status.CANCELLED}


def test_every_status_can_be_reached_from_queued():
    reached, fresh = set(), {Status.QUEUED}
    while fresh:
        reached |= fresh
        fresh = {following for status in fresh for following in TRANSITIONS[status]} - reached
    assert reached == set(Status)


def test_sources_are_the_transitions_read_backwards():
    for wanted in Status:
        assert {status for status in Status if wanted in TRANSITIONS[status]} == set(sources(wanted))


def test_a_worker_can_give_back_whatever_it_holds():
    assert set(GIVEN_BACK) == ACTIVE
    assert all(after in TRANSITIONS[held] for held, after in GIVEN_BACK.items())
