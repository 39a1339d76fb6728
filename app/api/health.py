"""Alive, ready, and figures for Prometheus."""

import os
from collections.abc import Iterator

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from app.api import examples
from app.api.state import Db, Set
from app.errors import Unavailable
from app.store import jobs
from app.store.database import Database
from app.store.errors import NotMigrated
from app.store.migrate import is_current

router = APIRouter(tags=["health"])


@router.get("/healthz", responses=examples.alive)
def healthz() -> dict[str, str]:
    """The server is alive."""
    return {"status": "alive"}


@router.get("/readyz", responses=examples.ready)
def readyz(db: Db, settings: Set) -> dict[str, str]:
    """Database and artifacts can be used; 503 where they can't."""
    if not is_current(db):
        raise NotMigrated
    artifacts = settings.artifacts_dir
    try:
        artifacts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the artifacts folder cannot be made: {error.strerror}") from error
    if not os.access(artifacts, os.R_OK | os.W_OK):
        raise Unavailable("the artifacts folder cannot be written to")
    return {"status": "ready"}


@router.get("/metrics", response_class=Response, responses=examples.prometheus)
def metrics(request: Request) -> Response:
    """Jobs by status and requests, in Prometheus' text format."""
    registry: CollectorRegistry = request.app.state.prometheus
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class JobsByStatus(Collector):
    """Counts the jobs when Prometheus asks."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def describe(self) -> Iterator[Metric]:
        """What will be collected, without asking the database."""
        yield GaugeMetricFamily("thaw_jobs", "Jobs by status.", labels=["status"])

    def collect(self) -> Iterator[Metric]:
        """The counts as they are now."""
        family = GaugeMetricFamily("thaw_jobs", "Jobs by status.", labels=["status"])
        for status, count in jobs.counts_by_status(self._db).items():
            family.add_metric([status], count)
        yield family
