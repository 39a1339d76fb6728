"""Jobs: submit, plan, list, look, cancel, pause, resume, retry, branch, delete."""

import json
import re
import shutil
import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api import examples
from app.api.bodies import IdempotencyKey, JsonBody, digest_of
from app.api.conditional import answer
from app.api.schemas import JobAnswer, Page, page
from app.api.state import Cat, Db, Quo, Set, Who, find_job
from app.branches import draft_branch, read_branch
from app.errors import Invalid
from app.estimates import estimate
from app.quotas import Quota
from app.store import checkpoints, controls, jobs, paces
from app.store.database import Database
from app.store.records import Job, Json
from app.store.states import Status
from finetune.errors import FinetuneError, SpecInvalid
from finetune.spec import JobSpec, Problem

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

METADATA_FILTER = re.compile(r"metadata\[(.*)\]", re.DOTALL)
LONGEST_KEY, MOST_PAIRS = 64, 16  # of a job's metadata


@router.post(
    "",
    status_code=201,
    response_model=JobAnswer,
    openapi_extra=examples.spec_body,
    responses=examples.job_created,
)
def submit(
    body: JsonBody, db: Db, catalog: Cat, quota: Quo, idempotency_key: IdempotencyKey = None
) -> JobAnswer:
    """Stores a job for a worker to take. Every problem of the spec is in the answer at once."""
    digest = digest_of(body)
    # Before the checks: data may have moved since, and the same request is to give the same job.
    job = jobs.find_earlier(db, idempotency_key, digest, quota.owner)
    if job is None:
        spec = _checked(body, catalog)
        resolved = catalog.resolve(spec).model_dump(mode="json")
        job = _create(db, quota, body, resolved, idempotency_key=idempotency_key, request_hash=digest)
    return JobAnswer.of(job, time.time())


@router.post(
    "/find-lr",
    status_code=201,
    response_model=JobAnswer,
    openapi_extra=examples.spec_body,
    responses=examples.job_created,
)
def find_lr(
    body: JsonBody, db: Db, catalog: Cat, quota: Quo, idempotency_key: IdempotencyKey = None
) -> JobAnswer:
    """Stores a job that looks for a learning rate instead of training: `range_test` is set if it is not."""
    if isinstance(body, dict) and body.get("range_test") is None:
        body = {**body, "range_test": {}}
    return submit(body, db, catalog, quota, idempotency_key)


@router.post("/plan", openapi_extra=examples.spec_body, responses=examples.plan)
def plan(body: JsonBody, catalog: Cat, db: Db, caller: Who) -> Response:
    """What a spec would do: head, frozen modules, groups, the rate of each group in each epoch, warnings.

    With the resolved spec, and how long it will take where earlier jobs with the backbone tell.
    """
    spec = _checked(body, catalog)
    try:
        drawn = catalog.plan(spec)
    except SpecInvalid as error:
        raise Invalid(error.problems) from error
    except FinetuneError as error:
        raise Invalid([Problem(error.param, error.message, error.code)]) from error
    resolved = catalog.resolve(spec).model_dump(mode="json")
    known = paces.list_paces(db, spec.backbone.name, caller.only)
    told = estimate(resolved, drawn.images["train"], known)
    answer = {**drawn.model_dump(mode="json"), "resolved_spec": resolved, "estimate": asdict(told)}
    return Response(json.dumps(answer), media_type="application/json")


@router.get("", response_model=Page[JobAnswer], responses=examples.job_list)
def list_jobs(
    request: Request,
    db: Db,
    caller: Who,
    after: Annotated[str | None, Query(description="The last id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    status: Status | None = None,
    experiment: Annotated[str | None, Query(description="The id of the experiment that they are of.")] = None,
) -> Response:
    """Jobs, newest first. `metadata[team]=zoo` keeps those with that pair; it may stand several times.

    With an ETag; 304 for `If-None-Match` where nothing changed but the estimated end.
    """
    pairs = _metadata_filter(request)
    found, more = jobs.list_jobs(db, after, limit, status, pairs, experiment, caller.only)
    now = time.time()
    listed = page([JobAnswer.of(job, now) for job in found], "id", more)
    return answer(request, listed, {"data": {"__all__": {"estimated_finish"}}})


@router.get("/{job_id}", response_model=JobAnswer, responses=examples.job)
def get_job(job_id: str, request: Request, db: Db) -> Response:
    """A job, with an ETag; 304 for `If-None-Match` where nothing changed."""
    return answer(request, JobAnswer.of(find_job(db, job_id), time.time()))


@router.post("/{job_id}/cancel", response_model=JobAnswer, responses=examples.job)
def cancel(job_id: str, db: Db) -> JobAnswer:
    """Ends a job: at once, or as soon as its worker has stopped. 409 where it has ended."""
    return JobAnswer.of(controls.cancel_job(db, job_id), time.time())


@router.post("/{job_id}/pause", response_model=JobAnswer, responses=examples.job)
def pause(job_id: str, db: Db) -> JobAnswer:
    """Takes a job from its worker; it will go on from its last epoch when it is resumed."""
    return JobAnswer.of(controls.pause_job(db, job_id), time.time())


@router.post("/{job_id}/resume", response_model=JobAnswer, responses=examples.job)
def resume(job_id: str, db: Db) -> JobAnswer:
    """Queues a paused job again."""
    return JobAnswer.of(controls.resume_job(db, job_id), time.time())


@router.post("/{job_id}/retry", status_code=201, response_model=JobAnswer, responses=examples.job_created)
def retry(job_id: str, db: Db, catalog: Cat, quota: Quo) -> JobAnswer:
    """A new job with the spec of a failed or cancelled one, its parent, in whose place it stands.

    It belongs to whom the parent belongs to.
    """
    old = find_job(db, job_id)
    controls.check_retry(old)
    resolved = catalog.resolve(_checked(old.spec, catalog)).model_dump(mode="json")
    return JobAnswer.of(_create(db, quota, old.spec, resolved, parent=old), time.time())


@router.post(
    "/{job_id}/branch",
    status_code=201,
    response_model=JobAnswer,
    openapi_extra=examples.branch_body,
    responses=examples.branch_created,
)
def branch(
    job_id: str, body: JsonBody, db: Db, catalog: Cat, quota: Quo, idempotency_key: IdempotencyKey = None
) -> JobAnswer:
    """A new job that starts from a checkpoint of this one, its parent, with a new plan for what follows.

    It has the checkpoint's weights and head, and a new optimizer; its epochs count from 1. The checkpoint is
    kept until the branch has ended. The job may be in any state, and goes on as if nothing had happened.
    """
    digest = digest_of({"branch": job_id, "body": body})
    parent = find_job(db, job_id)
    made = jobs.find_earlier(db, idempotency_key, digest, parent.owner)
    if made is None:
        wanted = read_branch(body)
        start = checkpoints.get_checkpoint(db, job_id, wanted.checkpoint)
        if start is None:
            message = f"job {job_id} has no checkpoint {wanted.checkpoint!r}"
            raise Invalid([Problem("checkpoint", message, "checkpoint_not_found")])
        spec, resolved = draft_branch(wanted, parent, start, catalog)
        made = _create(db, quota, spec, resolved, parent, start.id, idempotency_key, digest)
    return JobAnswer.of(made, time.time())


@router.delete("/{job_id}", status_code=204, responses=examples.conflict)
def delete(job_id: str, db: Db, settings: Set) -> None:
    """Deletes an ended job with its artifacts."""
    jobs.delete_job(db, job_id)
    shutil.rmtree(settings.artifacts_dir / job_id, ignore_errors=True)


def _checked(body: Any, catalog: Cat) -> JobSpec:
    problems = catalog.check(body)
    if problems:
        raise Invalid(problems)
    return JobSpec.model_validate(body)


def _create(
    db: Database,
    quota: Quota,
    spec: Json,
    resolved: Json,
    parent: Job | None = None,
    branched_from: str | None = None,
    idempotency_key: str | None = None,
    request_hash: str | None = None,
) -> Job:
    quota.check_bytes()
    job, _ = jobs.create_job(
        db,
        spec=spec,
        resolved_spec=resolved,
        name=resolved["name"],
        metadata=resolved["metadata"],
        priority=resolved["priority"],
        max_attempts=resolved["max_attempts"],
        parent=parent,
        branched_from=branched_from,
        idempotency_key=idempotency_key,
        request_hash=request_hash,
        owner=quota.owner,
        most_waiting=quota.most_waiting,
    )
    return job


def _metadata_filter(request: Request) -> dict[str, str]:
    pairs = {}
    for name, value in request.query_params.multi_items():
        match = METADATA_FILTER.fullmatch(name)
        if match is None:
            continue
        if not 1 <= len(match[1]) <= LONGEST_KEY:
            message = f"a key of metadata has 1 to {LONGEST_KEY} characters"
            raise Invalid([Problem("metadata", message, "metadata_key")])
        pairs[match[1]] = value
    if len(pairs) > MOST_PAIRS:
        raise Invalid([Problem("metadata", f"a job has at most {MOST_PAIRS} pairs", "too_long")])
    return pairs
