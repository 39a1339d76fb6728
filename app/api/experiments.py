"""Experiments: which variant of a spec is better? Start, list, look, cancel, delete."""

import shutil
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api import experiment_examples as examples
from app.api.bodies import IdempotencyKey, JsonBody, digest_of
from app.api.conditional import answer
from app.api.experiment_schemas import ExperimentAnswer
from app.api.schemas import Page, page
from app.api.state import Cat, Db, Quo, Set, Who, find_experiment
from app.quotas import Quota
from app.store import controls, experiments
from app.store.database import Database
from app.store.ids import new_id
from app.store.records import Experiment
from app.variants import Draft, draft

router = APIRouter(prefix="/v1/experiments", tags=["experiments"])


@router.post(
    "",
    status_code=201,
    response_model=ExperimentAnswer,
    openapi_extra=examples.experiment_body,
    responses=examples.experiment_created,
)
def create(
    body: JsonBody, db: Db, catalog: Cat, quota: Quo, idempotency_key: IdempotencyKey = None
) -> ExperimentAnswer:
    """Stores an experiment and a job for each variant and seed. Every problem is in the answer at once.

    A variant is a merge patch (RFC 7396) of the spec. An object with another `name` or `policy` than the
    spec's replaces it; a recipe takes the spec's stages away, and stages its recipe.
    """
    digest = digest_of(body)
    experiment = experiments.find_earlier(db, idempotency_key, digest, quota.owner)
    if experiment is None:
        experiment = _create(db, quota, draft(body, catalog), idempotency_key, digest)
    return _answer(db, experiment)


@router.get("", response_model=Page[ExperimentAnswer], responses=examples.experiment_list)
def list_experiments(
    db: Db,
    caller: Who,
    after: Annotated[str | None, Query(description="The last id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[ExperimentAnswer]:
    """Experiments, newest first."""
    found, more = experiments.list_experiments(db, after, limit, caller.only)
    return page([_answer(db, experiment) for experiment in found], "id", more)


@router.get("/{experiment_id}", response_model=ExperimentAnswer, responses=examples.experiment)
def get_experiment(experiment_id: str, request: Request, db: Db) -> Response:
    """An experiment with its table, and an ETag; 304 for `If-None-Match` where nothing changed."""
    return answer(request, _answer(db, find_experiment(db, experiment_id)))


@router.post("/{experiment_id}/cancel", response_model=ExperimentAnswer, responses=examples.experiment)
def cancel(experiment_id: str, db: Db) -> ExperimentAnswer:
    """Cancels all jobs that have not ended. 409 where all have."""
    controls.cancel_experiment(db, experiment_id)
    return _answer(db, find_experiment(db, experiment_id))


@router.delete("/{experiment_id}", status_code=204, responses=examples.conflict)
def delete(experiment_id: str, db: Db, settings: Set) -> None:
    """Deletes an experiment with its jobs and their artifacts. 409 while a job has not ended."""
    for job_id in experiments.delete_experiment(db, experiment_id):
        shutil.rmtree(settings.artifacts_dir / job_id, ignore_errors=True)


def _create(db: Database, quota: Quota, sound: Draft, idempotency_key: str | None, digest: str) -> Experiment:
    sent, new = sound.body, new_id("exp")
    values = {
        "id": new,
        "name": sent.name,
        "metadata": sent.metadata,
        "spec": sent.spec,
        "variants": [variant.model_dump() for variant in sent.variants],
        "seeds": sent.seeds,
        "metric": sound.metric,
        "idempotency_key": idempotency_key,
        "request_hash": digest,
        "owner": quota.owner,
    }
    quota.check_bytes()
    trials = sound.trials(sent.name or new)
    experiment, _ = experiments.create_experiment(db, values, trials, quota.most_waiting)
    return experiment


def _answer(db: Database, experiment: Experiment) -> ExperimentAnswer:
    return ExperimentAnswer.of(experiment, experiments.list_trials(db, experiment.id))
