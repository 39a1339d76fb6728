"""What the routes work with, as FastAPI dependencies."""

from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from app.callers import CALLER, Caller
from app.catalog import Catalog
from app.checks import Checks
from app.exports import Exports
from app.feed import Feed
from app.listings import Listings
from app.own_datasets import OwnDatasets
from app.pictures import Pictures
from app.predicted import Predicted
from app.predictor import Predictor
from app.quotas import Quota
from app.settings import Settings
from app.store import experiments, jobs, owners
from app.store.database import Database
from app.store.errors import ExperimentNotFound, JobNotFound
from app.store.records import Experiment, Job


async def _db(request: Request) -> Database:
    db: Database = request.app.state.db
    return db


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _caller(request: Request) -> Caller:
    caller: Caller = request.scope[CALLER]
    return caller


async def _catalog(request: Request) -> Catalog:
    state = request.app.state
    return Catalog(state.settings, state.db, state.shelf, await _caller(request))


async def _own_datasets(request: Request) -> OwnDatasets:
    state = request.app.state
    return OwnDatasets(state.settings.data_dir, state.db, await _caller(request))


async def _quota(request: Request) -> Quota:
    state = request.app.state
    return Quota(state.settings, state.db, await _caller(request))


async def _checks(request: Request) -> Checks:
    checks: Checks = request.app.state.checks
    return checks


async def _exports(request: Request) -> Exports:
    exports: Exports = request.app.state.exports
    return exports


async def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


async def _predictor(request: Request) -> Predictor:
    predictor: Predictor = request.app.state.predictor
    return predictor


async def _listings(request: Request) -> Listings:
    listings: Listings = request.app.state.listings
    return listings


async def _pictures(request: Request) -> Pictures:
    pictures: Pictures = request.app.state.pictures
    return pictures


async def _predicted(request: Request) -> Predicted:
    predicted: Predicted = request.app.state.predicted
    return predicted


Db = Annotated[Database, Depends(_db)]
Set = Annotated[Settings, Depends(_settings)]
Who = Annotated[Caller, Depends(_caller)]
Own = Annotated[OwnDatasets, Depends(_own_datasets)]
Quo = Annotated[Quota, Depends(_quota)]
Cat = Annotated[Catalog, Depends(_catalog)]
Chk = Annotated[Checks, Depends(_checks)]
Exp = Annotated[Exports, Depends(_exports)]
Follows = Annotated[Feed, Depends(_feed)]
Predicts = Annotated[Predictor, Depends(_predictor)]
Img = Annotated[Listings, Depends(_listings)]
Leaf = Annotated[Predicted, Depends(_predicted)]
Pic = Annotated[Pictures, Depends(_pictures)]


async def check_owner(request: Request, db: Db) -> None:
    """Lets nobody at another owner's things, whatever the route does with the ids in its address.

    Raises:
        JobNotFound, ExperimentNotFound: there is no such one for the caller.
    """
    named = {name: request.path_params[name] for name in OWNED if name in request.path_params}
    if not named or (caller := await _caller(request)).sees_all:
        return
    for name, value in named.items():
        owner_of, missing = OWNED[name]
        # No id has a NUL in it, which PostgreSQL would not even be asked for.
        owner = None if "\x00" in value else await run_in_threadpool(owner_of, db, value)
        if owner is None or not caller.sees(owner):
            raise missing(value)


OWNED = {
    "job_id": (owners.owner_of_job, JobNotFound),
    "experiment_id": (owners.owner_of_experiment, ExperimentNotFound),
}
"""What addresses name that has an owner: how to find out which, and what to say where it is another's."""


def find_job(db: Database, job_id: str) -> Job:
    """The job of that id.

    Raises:
        JobNotFound: there is none.
    """
    job = jobs.get_job(db, job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


def find_experiment(db: Database, experiment_id: str) -> Experiment:
    """The experiment of that id.

    Raises:
        ExperimentNotFound: there is none.
    """
    experiment = experiments.get_experiment(db, experiment_id)
    if experiment is None:
        raise ExperimentNotFound(experiment_id)
    return experiment
