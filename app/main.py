"""The application: `create_app(settings)`."""

import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from app import errors
from app.api import (
    backbones,
    caller,
    checkpoints,
    corrections,
    curves,
    datasets,
    events,
    experiments,
    health,
    jobs,
    loading,
    metrics,
    pictures,
    predictions,
    report_images,
    reports,
    specs,
)
from app.api.openapi import describe
from app.api.state import check_owner
from app.binding import is_loopback
from app.catalog import Shelf
from app.checks import Checks
from app.exports import Exports
from app.feed import Feed
from app.gate import Gate
from app.guards import Guards
from app.housekeeping import keep_house
from app.listings import Listings
from app.pictures import Pictures
from app.predicted import Predicted
from app.predictor import Predictor
from app.rates import Rates
from app.requests import RequestLog
from app.settings import Settings
from app.staging import sweep
from app.store import leases
from app.store.database import Database
from app.store.doorbells import ring
from app.store.errors import StoreUnavailable
from app.web import pages

log = structlog.get_logger()

LOADING_SECONDS = 10.0  # that a server which ends waits for torch to be loaded
TIDYING_SECONDS = 5.0  # and for the housekeeping to stop


def create_app(settings: Settings) -> FastAPI:
    """The server's application. It connects to the database when it is first asked something."""
    db = Database(
        settings.database_url,
        on_news=partial(ring, settings.doorbells_dir),
        on_events=partial(ring, settings.feed_doorbells_dir),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stopping = threading.Event()
        sweeping = leases.Sweeper(db, settings.lease_seconds)
        sweeper = threading.Thread(target=_sweep, args=(sweeping, stopping), daemon=True)
        sweeper.start()
        threading.Thread(target=_clear_uploads, args=(settings.data_dir,), daemon=True).start()
        housekeeper = threading.Thread(target=keep_house, args=(db, settings, stopping), daemon=True)
        housekeeper.start()
        loader = app.state.shelf.start_loading()
        yield
        stopping.set()
        app.state.feed.close()
        app.state.checks.close()
        app.state.exports.close()
        app.state.predictor.close()
        app.state.pictures.close()
        sweeper.join()
        housekeeper.join(TIDYING_SECONDS)
        loader.join(LOADING_SECONDS)  # an interpreter that ends in the middle of an import may crash
        gc.unfreeze()  # frozen once the backbones were loaded
        db.dispose()

    app = FastAPI(
        title="Thaw",
        version="0.1.0",
        lifespan=lifespan,
        dependencies=[Depends(check_owner)],
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.db, app.state.settings = db, settings
    app.state.shelf = Shelf(settings.backbones)
    app.state.checks = Checks(settings.data_dir, settings.checks_dir)
    app.state.listings = Listings(settings.data_dir)
    app.state.pictures = Pictures(settings)
    app.state.predicted = Predicted()
    app.state.exports = Exports(settings, db)
    app.state.feed = Feed(db, settings.feed_doorbells_dir)
    app.state.predictor = Predictor(settings)
    app.state.prometheus = CollectorRegistry()
    app.state.prometheus.register(health.JobsByStatus(db))
    errors.install(app)
    for resource in (
        jobs,
        experiments,
        metrics,
        loading,
        events,
        checkpoints,
        curves,
        specs,
        reports,
        report_images,
        corrections,
        predictions,
        backbones,
        datasets,
        pictures,
        caller,
        health,
        pages,
    ):
        app.include_router(resource.router)
    app.add_middleware(Gate, db=db, always=not is_loopback(settings.host))
    app.add_middleware(
        Guards,
        hosts=(settings.host.lower(), *settings.allowed_hosts),
        rates=Rates(settings.requests_per_second),
        seconds=settings.client_seconds,
    )
    app.add_middleware(RequestLog, registry=app.state.prometheus)
    describe(app)
    return app


def _sweep(sweeper: leases.Sweeper, stopping: threading.Event) -> None:
    """Takes jobs back from lost workers: where no worker is left, nobody else sees that they do not run."""
    while not stopping.wait(sweeper.interval):
        try:
            for job in sweeper.sweep():
                log.warning("took a job back from a lost worker", job=job)
        except StoreUnavailable as error:
            log.warning("the database does not answer", error=str(error))
        except Exception:  # whatever it is, the next look may do
            log.exception("taking jobs back broke")


def _clear_uploads(data_dir: Path) -> None:
    try:
        sweep(data_dir)
    except OSError as error:
        log.warning("what uploads left cannot be removed", error=str(error))
