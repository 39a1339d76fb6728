"""What the routes work with, as FastAPI dependencies."""

from typing import Annotated

from fastapi import Depends, Request

from app.catalog import Catalog
from app.checks import Checks
from app.exports import Exports
from app.feed import Feed
from app.predictor import Predictor
from app.settings import Settings
from app.store import experiments, jobs
from app.store.database import Database
from app.store.errors import ExperimentNotFound, JobNotFound
from app.store.records import Experiment, Job


async def _db(request: Request) -> Database:
    db: Database = request.app.state.db
    return db


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _catalog(request: Request) -> Catalog:
    catalog: Catalog = request.app.state.catalog
    return catalog


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


Db = Annotated[Database, Depends(_db)]
Set = Annotated[Settings, Depends(_settings)]
Cat = Annotated[Catalog, Depends(_catalog)]
Chk = Annotated[Checks, Depends(_checks)]
Exp = Annotated[Exports, Depends(_exports)]
Follows = Annotated[Feed, Depends(_feed)]
Predicts = Annotated[Predictor, Depends(_predictor)]


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
