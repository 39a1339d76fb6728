"""Events, as a list and as a stream."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api import examples
from app.api.schemas import EventAnswer, Page, page
from app.api.state import Db, Follows, find_job
from app.errors import Invalid
from app.feed import Channel, Feed
from app.store import events, jobs
from app.store.database import Database
from app.store.records import Event
from app.store.states import ENDED
from finetune.spec import Problem

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

PAGE = 100
LARGEST_ID = 2**63 - 1


@router.get("/events", response_model=Page[EventAnswer], responses=examples.events)
async def list_events(
    job_id: str,
    request: Request,
    db: Db,
    feed: Follows,
    after: Annotated[int, Query(ge=0, le=LARGEST_ID, description="Only events with an id above it.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = PAGE,
    last_event_id: Annotated[str | None, Header(description="Where a broken stream goes on.")] = None,
) -> Response | Page[EventAnswer]:
    """What happened to a job, oldest first. With `Accept: text/event-stream` a stream until the job ends."""
    await run_in_threadpool(find_job, db, job_id)
    if "text/event-stream" in request.headers.get("accept", ""):
        start = after if last_event_id is None else _event_id(last_event_id)
        return EventSourceResponse(_stream(db, feed, job_id, start))
    found = await run_in_threadpool(events.list_events, db, job_id, after, limit + 1)
    return page([EventAnswer.of(event) for event in found[:limit]], "id", len(found) > limit)


def _event_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST_ID):
        raise Invalid(
            [Problem("Last-Event-ID", "should be the id of an event, a whole number", "int_parsing")]
        )
    return int(text)


async def _stream(db: Database, feed: Feed, job_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
    """Events from the database until the stream has caught up with the feed, and from there on the feed's."""
    with feed.follow(job_id) as channel:
        while True:
            changed = channel.changed  # before the look, so that nothing comes in between
            found, ended = await _next(db, channel, job_id, after)
            for event in found:
                after = event.id
                yield ServerSentEvent(
                    EventAnswer.of(event).model_dump_json(), event=event.type, id=str(event.id), sep="\n"
                )
            if not found:
                if ended:
                    return
                await changed.wait()


async def _next(db: Database, channel: Channel, job_id: str, after: int) -> tuple[list[Event], bool]:
    """The next events, and whether there will be no more; from the database where the feed has not all."""
    known = channel.since(after)
    if known is not None:
        return known, channel.ended
    return await run_in_threadpool(_read, db, job_id, after)


def _read(db: Database, job_id: str, after: int) -> tuple[list[Event], bool]:
    """The next events, and whether there will be no more. The job first: its end is its last event."""
    job = jobs.get_job(db, job_id)
    return events.list_events(db, job_id, after, PAGE), job is None or job.status in ENDED
