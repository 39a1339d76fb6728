import asyncio
import random
import threading
import time
from errno import EMFILE
from functools import partial

import pytest
from sqlalchemy import event

from app import feed
from app.api import events
from app.api.events import _stream
from app.feed import Feed
from app.store import controls
from app.store.database import Database
from app.store.doorbells import ring
from app.store.errors import StoreUnavailable
from app.store.events import add_event, list_events, look_for_events
from app.store.jobs import create_job

PATIENCE = 60.0


@pytest.fixture
def post(db):
    return lambda: create_job(db, spec={}, resolved_spec={})[0]


@pytest.fixture
def note(db):
    return partial(_write, db)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(feed, "REST_SECONDS", 0.02)


@pytest.fixture
def doorbells(tmp_path):
    return tmp_path / "feed-doorbells"


@pytest.fixture
def start_feed(db, doorbells):
    return lambda: Feed(db, doorbells)


@pytest.fixture
def ringing(url, doorbells):
    """The same database as of a process that rings at servers."""
    db = Database(url, on_events=partial(ring, doorbells))
    yield db
    db.dispose()


@pytest.fixture
def looks(monkeypatch):
    """Gets longer with every look at the database for news."""
    seen = []

    def look(*arguments):
        seen.append(arguments)
        return look_for_events(*arguments)

    monkeypatch.setattr(feed, "look_for_events", look)
    return seen


async def _ids(db, ours, job, after=0, pause=0.0):
    """The ids of all events that a stream gives until it ends."""
    found = []
    async for sent in _stream(db, ours, job.id, after):
        found.append(int(sent.id or 0))
        await asyncio.sleep(pause)
    return found


def _stored(db, job):
    return [event.id for event in list_events(db, job.id, limit=100_000)]


def _run(body):
    asyncio.run(asyncio.wait_for(body, PATIENCE))


@pytest.mark.promise("Every stream gives each event of its job once and in order, whenever it begins")
def test_streams_that_begin_at_any_moment_give_every_event_once(
    db, start_feed, post, note, quick, long, tried
):
    jobs, dice = [post() for _ in range(4)], random.Random(1)
    streams = 200 if long else 40

    def write():
        for number in range(40):
            for job in jobs:
                note(job, str(number))
        for job in jobs:
            controls.cancel_job(db, job.id)

    async def follow():
        ours, writer = start_feed(), threading.Thread(target=write)
        writer.start()

        async def begin_some_time(job):
            await asyncio.sleep(dice.random())
            return job, await _ids(db, ours, job, pause=dice.choice((0.0, 0.0, 0.005)))

        for job, found in await asyncio.gather(*(begin_some_time(jobs[n % 4]) for n in range(streams))):
            assert found == _stored(db, job)
        writer.join()

    _run(follow())
    tried(streams)


@pytest.mark.promise("One look at the database serves all streams of a server")
def test_many_streams_cost_the_database_no_more_than_one(db, start_feed, post, quick, looks):
    jobs = [post() for _ in range(10)]
    statements = []

    def note(connection, cursor, sql, *rest):
        if sql.startswith("SELECT"):
            statements.append(sql)

    event.listen(db.engine, "before_cursor_execute", note)

    async def count(streams):
        ours = start_feed()
        tasks = [asyncio.create_task(_ids(db, ours, jobs[n % len(jobs)])) for n in range(streams)]
        for _ in range(20):  # until all have caught up with the feed
            looks.clear()
            statements.clear()
            begun = time.monotonic()
            await asyncio.sleep(0.5)
            seconds, looked, asked = time.monotonic() - begun, len(looks), len(statements)
            if looked and asked <= looked + 1:
                break
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert 0 < looked <= seconds / feed.POLL_SECONDS + 1
        assert asked <= looked + 1  # one statement a look, but for a look that is under way

    async def compare():
        await count(1)
        await count(50)

    _run(compare())
    event.remove(db.engine, "before_cursor_execute", note)


def test_nobody_looks_when_nobody_follows(db, start_feed, post, quick, looks):
    job = post()

    async def follow_and_leave():
        ours = start_feed()
        task = asyncio.create_task(_ids(db, ours, job))
        await asyncio.sleep(0.2)
        assert looks
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.2)
        looks.clear()
        await asyncio.sleep(0.2)
        assert looks == []
        controls.cancel_job(db, job.id)
        assert await _ids(db, ours, job) == _stored(db, job)  # and somebody does again

    _run(follow_and_leave())


def test_a_stream_that_is_slower_than_what_is_kept_loses_nothing(
    db, start_feed, post, note, quick, monkeypatch
):
    monkeypatch.setattr(feed, "KEPT", 3)
    job = post()

    async def follow():
        task = asyncio.create_task(_ids(db, start_feed(), job, pause=0.05))
        await asyncio.sleep(0.3)
        for number in range(30):
            await asyncio.to_thread(note, job, str(number))
        await asyncio.to_thread(controls.cancel_job, db, job.id)
        assert await task == _stored(db, job)

    _run(follow())


def test_more_events_than_a_look_takes_come_in_several_and_the_end_comes_last(
    db, start_feed, post, note, quick, monkeypatch
):
    monkeypatch.setattr(feed, "look_for_events", lambda db, after: look_for_events(db, after, limit=4))
    job = post()

    async def follow():
        task = asyncio.create_task(_ids(db, start_feed(), job))
        await asyncio.sleep(0.3)

        def write_all_at_once():
            with db.write() as connection:
                for number in range(30):
                    add_event(connection, job.seq, "job.note", str(number))
            controls.cancel_job(db, job.id)

        await asyncio.to_thread(write_all_at_once)
        assert await task == _stored(db, job)

    _run(follow())


@pytest.mark.parametrize("error", [StoreUnavailable(), RuntimeError("a bug")])
def test_streams_go_on_after_looks_that_failed(db, start_feed, post, note, monkeypatch, error):
    job, broken, failed = post(), threading.Event(), threading.Event()

    def look(*arguments):
        if broken.is_set():
            failed.set()
            raise error
        return look_for_events(*arguments)

    monkeypatch.setattr(feed, "look_for_events", look)

    async def follow():
        task = asyncio.create_task(_ids(db, start_feed(), job))
        await asyncio.sleep(0.2)
        broken.set()
        await asyncio.to_thread(failed.wait, 30)
        await asyncio.to_thread(note, job)
        await asyncio.to_thread(controls.cancel_job, db, job.id)
        broken.clear()
        assert await task == _stored(db, job)

    _run(follow())


def test_a_stream_may_begin_behind_all_events(db, start_feed, post, note, quick):
    job = post()

    async def follow():
        task = asyncio.create_task(_ids(db, start_feed(), job, after=_stored(db, job)[-1]))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(note, job)
        await asyncio.to_thread(controls.cancel_job, db, job.id)
        assert await task == _stored(db, job)[1:]

    _run(follow())


def test_news_that_come_while_a_stream_reads_are_not_slept_through(
    db, start_feed, post, note, quick, monkeypatch
):
    job, read, written = post(), events._read, threading.Event()

    def read_and_write(*arguments):
        found = read(*arguments)
        if not written.is_set():
            written.set()
            note(job)
            controls.cancel_job(db, job.id)
            time.sleep(0.3)  # in which the feed has its look
        return found

    monkeypatch.setattr(events, "_read", read_and_write)

    async def follow():
        assert await _ids(db, start_feed(), job, after=_stored(db, job)[-1]) == _stored(db, job)[1:]

    _run(follow())


def test_an_event_that_is_rung_for_is_sent_at_once(db, ringing, start_feed, post, monkeypatch):
    monkeypatch.setattr(feed, "POLL_SECONDS", 2 * PATIENCE)
    job = post()

    async def follow():
        stream = _stream(db, start_feed(), job.id, _stored(db, job)[-1])
        coming = asyncio.ensure_future(anext(stream))
        for _ in range(3):
            await asyncio.sleep(0.3)  # longer than the feed rests after a look
            await asyncio.to_thread(_write, ringing, job)
            assert (await coming).id == str(_stored(db, job)[-1])
            coming = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(controls.cancel_job, ringing, job.id)
        assert (await coming).id == str(_stored(db, job)[-1])

    _run(follow())


def test_events_that_are_rung_for_in_a_row_are_looked_for_together(db, ringing, start_feed, post, looks):
    job = post()

    async def follow():
        task = asyncio.create_task(_ids(db, start_feed(), job))
        await asyncio.sleep(0.3)
        looks.clear()
        begun = time.monotonic()
        for _ in range(100):
            await asyncio.to_thread(_write, ringing, job)
        await asyncio.to_thread(controls.cancel_job, ringing, job.id)
        assert await task == _stored(db, job)
        assert len(looks) <= (time.monotonic() - begun) / feed.REST_SECONDS + 1

    _run(follow())


def test_a_doorbell_hangs_for_as_long_as_somebody_follows(db, doorbells, start_feed, post):
    job = post()

    async def follow():
        ours = start_feed()
        task = asyncio.create_task(_ids(db, ours, job))
        await asyncio.sleep(0.3)
        assert len(list(doorbells.iterdir())) == 1
        controls.cancel_job(db, job.id)
        await task
        assert ours._looking is not None
        await ours._looking
        assert list(doorbells.iterdir()) == []

    _run(follow())


def test_a_doorbell_that_was_removed_hangs_again_and_is_heard(
    db, ringing, doorbells, start_feed, post, monkeypatch
):
    job = post()

    async def follow():
        stream = _stream(db, start_feed(), job.id, _stored(db, job)[-1])
        coming = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.5)
        (before,) = doorbells.iterdir()
        before.unlink()
        doorbells.rmdir()
        await asyncio.sleep(0.6)  # a look or two later
        monkeypatch.setattr(feed, "POLL_SECONDS", 2 * PATIENCE)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(_write, ringing, job)
        assert (await coming).id == str(_stored(db, job)[-1])

    _run(follow())


def _refuse(*arguments):
    raise OSError(EMFILE, "too many open files")


@pytest.mark.parametrize("because", ["there are too many open files", "a file is in the folder's place"])
def test_where_no_doorbell_can_be_hung_streams_get_their_news_all_the_same(
    db, start_feed, doorbells, post, quick, monkeypatch, because
):
    if because.startswith("there"):
        monkeypatch.setattr(feed, "Doorbell", _refuse)
    else:
        doorbells.touch()
    job = post()

    async def follow():
        task = asyncio.create_task(_ids(db, start_feed(), job))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(controls.cancel_job, db, job.id)
        assert await task == _stored(db, job)

    _run(follow())


def _write(db, job, message="a"):
    with db.write() as connection:
        add_event(connection, job.seq, "job.note", message)
