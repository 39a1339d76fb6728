"""The typed HTTP client."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx

from client import download, packing
from client.answers import Model, check, parse, parse_json
from client.datasets import Dataset
from client.errors import AddressInvalid, AnswerUnreadable, Unavailable, Unreachable, UploadBroken
from client.experiments import Experiment
from client.keys import check_key
from client.models import Checkpoint, EpochRecord, Event, Format, Job, Page
from client.plans import Plan
from client.predictions import Predictions
from client.reports import Report
from client.streams import lines, messages

STREAM_SILENCE = 60.0
"""Seconds without a byte after which a stream counts as broken; servers send comments far more often."""
UNPACKING = 3600.0
"""Seconds that a server may take for what it has received: a large dataset is many files."""
FIRST_PREDICTION = 150.0
"""Seconds that a prediction may take: the server's first one waits until torch is loaded."""
PREDICTION_TRIES = 5
LONGEST_PAUSE = 30.0
"""Seconds that are waited at most before a server that was busy is asked again."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class ThawClient:
    """Talks to one Thaw server. Every method raises errors from `client.errors` and no others of HTTP's.

    Args:
        base_url: The server's address, such as `http://127.0.0.1:8321`.
        timeout: Seconds to wait for a connection, and for each next byte of an answer.
        retry_pauses: Seconds before each retry of a download or a stream whose connection broke;
            at least one.
        key: The key to send, where the server demands one.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float = 30.0,
        retry_pauses: Sequence[float] = download.PAUSES,
        key: str | None = None,
    ) -> None:
        try:
            url = httpx.URL(base_url)
        except httpx.InvalidURL:
            raise AddressInvalid(base_url) from None
        if url.scheme not in ("http", "https") or not url.host:
            raise AddressInvalid(base_url)
        self.base_url = base_url.rstrip("/")
        self._timeout, self._retry_pauses = timeout, retry_pauses
        headers = {} if key is None else {"Authorization": f"Bearer {check_key(key)}"}
        # A proxy of the environment cannot reach a server on this machine.
        trust_env = url.host not in LOOPBACK
        self._http = httpx.Client(
            base_url=self.base_url, timeout=timeout, trust_env=trust_env, headers=headers
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def submit(self, spec: Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        """Creates a job. The same key and spec give the same job again, with another spec a `Refused`."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return parse(Job, self._send("POST", "/v1/jobs", json=spec, headers=headers))

    def find_lr(self, spec: Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        """Creates a job that looks for a learning rate instead of training; see `submit` for the key."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return parse(Job, self._send("POST", "/v1/jobs/find-lr", json=spec, headers=headers))

    def plan(self, spec: Mapping[str, Any]) -> Plan:
        """Says what a spec would do; nothing is stored or trained."""
        return parse(Plan, self._send("POST", "/v1/jobs/plan", json=spec))

    def jobs(
        self,
        after: str | None = None,
        limit: int = 20,
        status: str | None = None,
        metadata: Mapping[str, str] | None = None,
        experiment: str | None = None,
    ) -> Page[Job]:
        """One page of jobs, newest first; `after` is the last one of the page before."""
        given = {"limit": limit, "after": after, "status": status, "experiment": experiment}
        params = {name: value for name, value in given.items() if value is not None}
        params |= {f"metadata[{key}]": value for key, value in (metadata or {}).items()}
        return parse(Page[Job], self._send("GET", "/v1/jobs", params=params))

    def job(self, job_id: str) -> Job:
        """One job."""
        return parse(Job, self._send("GET", _job_path(job_id)))

    def job_if_changed(self, job_id: str, etag: str | None) -> tuple[Job, str | None] | None:
        """The job and its ETag, or None where it is still what it was under `etag`."""
        return self._if_changed(Job, _job_path(job_id), etag)

    def metrics(self, job_id: str, after_epoch: int = 0) -> list[EpochRecord]:
        """The epochs after the given global one, oldest first."""
        records: list[EpochRecord] = []
        while True:
            last = records[-1].global_epoch if records else after_epoch
            path = f"{_job_path(job_id)}/metrics"
            page = parse(Page[EpochRecord], self._send("GET", path, params={"after_epoch": last}))
            new = [record for record in page.data if record.global_epoch > last]
            records += new
            if not (page.has_more and new):
                return records

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """The events after the given one, oldest first."""
        events: list[Event] = []
        while True:
            last = events[-1].id if events else after
            params = {"after": last} if last else {}
            page = parse(Page[Event], self._send("GET", f"{_job_path(job_id)}/events", params=params))
            new = [event for event in page.data if event.id > last]
            events += new
            if not (page.has_more and new):
                return events

    def stream_events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """Yields events as they happen, until the job has ended.

        A connection that breaks is made again, from the last event on.

        Raises:
            Unreachable: when the server stays away for longer than the retries take.
        """
        failures = 0
        while True:
            before = after
            try:
                for event in self._events_of_one_connection(job_id, after):
                    after = event.id
                    yield event
                if self.job(job_id).ended:
                    # Events may have come between the stream's end and this look at the job.
                    yield from self.events(job_id, after)
                    return
                failures = 0
            except (httpx.TransportError, Unreachable) as error:
                failures = 1 if after > before else failures + 1
                if failures > len(self._retry_pauses):
                    raise Unreachable(self.base_url, error) from None
            time.sleep(self._retry_pauses[max(failures - 1, 0)])

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """The checkpoints that a job has now."""
        return parse(Page[Checkpoint], self._send("GET", f"{_job_path(job_id)}/checkpoints")).data

    def cancel(self, job_id: str) -> Job:
        """Asks for a job's end; one that has ended already is `Refused`."""
        return parse(Job, self._send("POST", f"{_job_path(job_id)}/cancel"))

    def pause(self, job_id: str) -> Job:
        """Takes a job from its worker, which saves at its next step; an ended one is `Refused`."""
        return parse(Job, self._send("POST", f"{_job_path(job_id)}/pause"))

    def resume(self, job_id: str) -> Job:
        """Queues a paused job again; it goes on where it was. One that is not paused is `Refused`."""
        return parse(Job, self._send("POST", f"{_job_path(job_id)}/resume"))

    def retry(self, job_id: str) -> Job:
        """Creates a job with the spec of a failed or cancelled one, its parent; others are `Refused`."""
        return parse(Job, self._send("POST", f"{_job_path(job_id)}/retry"))

    def branch(
        self,
        job_id: str,
        patch: Mapping[str, Any],
        checkpoint: str = "best",
        idempotency_key: str | None = None,
    ) -> Job:
        """Creates a job that starts from a checkpoint (an ID, `best` or `last`) of another, its parent.

        `patch` is a merge patch (RFC 7396) of the parent's spec, with the `stages` or the `recipe` that
        follow; see `submit` for the key.
        """
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        body = {"checkpoint": checkpoint, "patch": patch}
        return parse(Job, self._send("POST", f"{_job_path(job_id)}/branch", json=body, headers=headers))

    def delete(self, job_id: str) -> None:
        """Removes an ended job and its checkpoints."""
        self._send("DELETE", _job_path(job_id))

    def report(self, job_id: str) -> Report:
        """What a job's best checkpoint gets right and wrong; a job without a report is `NotFound`."""
        return parse(Report, self._send("GET", f"{_job_path(job_id)}/report"))

    def predictions(self, job_id: str, destination: Path, progress: download.Report | None = None) -> Path:
        """Downloads the report's predictions, a Parquet file; see `client.download` for the rest."""
        url = f"{_job_path(job_id)}/report/predictions"
        with self._reaching():
            return download.download(self._http, url, destination, progress, self._retry_pauses)

    def download(
        self,
        job_id: str,
        checkpoint: str,
        destination: Path,
        progress: download.Report | None = None,
        format: Format | None = None,
        preprocessing: bool = False,
    ) -> Path:
        """Downloads a checkpoint (an ID, `best` or `last`); see `client.download` for the rest.

        With `format` it is a zip with the model in that format and a model card; with `preprocessing` a model
        that takes decoded images of any size. The server makes it first, which may take minutes.
        """
        url = f"{_job_path(job_id)}/checkpoints/{quote(checkpoint, safe='')}/download"
        asked = {"format": format, "preprocessing": "true" if preprocessing else None}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        url, patience = (f"{url}?{query}", download.MAKING_SECONDS) if query else (url, None)
        with self._reaching():
            return download.download(self._http, url, destination, progress, self._retry_pauses, patience)

    def datasets(self) -> list[Dataset]:
        """The datasets that jobs may name, not checked."""
        return parse(Page[Dataset], self._send("GET", "/v1/datasets")).data

    def dataset(self, name: str, wait: float = 10.0) -> Dataset:
        """One dataset, and what its files' check has found after `wait` seconds at most, from 0 to 60."""
        response = self._send("GET", _dataset_path(name), params={"wait": wait}, patience=wait)
        return parse(Dataset, response)

    def upload(
        self, name: str, source: Path, replace: bool = False, progress: packing.Report | None = None
    ) -> Dataset:
        """Sends a folder or a zip archive as the dataset of that name; its check has begun by then.

        Raises:
            SourceUnusable: it is neither, or there is something in it that cannot be sent.
            Refused: the server does not take it. What it held is what it holds.
            UploadBroken: the connection broke on the way.
        """
        packed = packing.pack(source, progress)
        headers = {"Content-Type": "application/zip"}
        if packed.length is not None:
            headers["Content-Length"] = str(packed.length)
        try:
            # Closed here: what was refused on the way is not packed to its end.
            with closing(packed.pieces) as pieces:
                response = self._http.put(
                    _dataset_path(name),
                    content=pieces,
                    params={"replace": "true"} if replace else None,
                    headers=headers,
                    timeout=httpx.Timeout(self._timeout, read=UNPACKING),
                )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(self.base_url, error) from None
        except httpx.TransportError as error:
            raise UploadBroken(self.base_url, name, error) from None
        check(response)
        return parse(Dataset, response)

    def predict(
        self, job_id: str, files: Sequence[Path], checkpoint: str = "best", top: int = 5
    ) -> Predictions:
        """What a job's network says of images, at most 64 of them; see `client.predicting` for more.

        All are answered, or none: a `Refused` names those that cannot be read in its details, by their places
        (`images.0`). A server that is busy is asked again a few times, when it says.
        """
        for _ in range(PREDICTION_TRIES - 1):
            try:
                return self._predict(job_id, files, checkpoint, top)
            except Unavailable as error:
                time.sleep(min(error.retry_after, LONGEST_PAUSE))
        return self._predict(job_id, files, checkpoint, top)

    def experiment(self, experiment_id: str) -> Experiment:
        """One experiment."""
        return parse(Experiment, self._send("GET", _experiment_path(experiment_id)))

    def experiment_if_changed(
        self, experiment_id: str, etag: str | None
    ) -> tuple[Experiment, str | None] | None:
        """The experiment and its ETag, or None where it is still what it was under `etag`."""
        return self._if_changed(Experiment, _experiment_path(experiment_id), etag)

    def experiments(self, after: str | None = None, limit: int = 20) -> Page[Experiment]:
        """One page of experiments, newest first; `after` is the last one of the page before."""
        params: dict[str, str | int] = {"limit": limit} if after is None else {"limit": limit, "after": after}
        return parse(Page[Experiment], self._send("GET", "/v1/experiments", params=params))

    def create_experiment(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> Experiment:
        """Creates an experiment and its jobs; see `submit` for the key."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return parse(Experiment, self._send("POST", "/v1/experiments", json=body, headers=headers))

    def cancel_experiment(self, experiment_id: str) -> Experiment:
        """Asks for the end of all its jobs; an experiment that has ended already is `Refused`."""
        return parse(Experiment, self._send("POST", f"{_experiment_path(experiment_id)}/cancel"))

    def delete_experiment(self, experiment_id: str) -> None:
        """Removes an ended experiment with its jobs and their checkpoints."""
        self._send("DELETE", _experiment_path(experiment_id))

    def _predict(self, job_id: str, files: Sequence[Path], checkpoint: str, top: int) -> Predictions:
        path = f"{_job_path(job_id)}/predict"
        params: dict[str, str | int] = {"checkpoint": checkpoint, "top": top}
        with ExitStack() as opened, self._reaching():
            form = [("images", (file.name, opened.enter_context(file.open("rb")))) for file in files]
            response = self._http.post(path, files=form, params=params, timeout=FIRST_PREDICTION)
        check(response)
        return parse(Predictions, response)

    def _if_changed(self, model: type[Model], path: str, etag: str | None) -> tuple[Model, str | None] | None:
        headers = {} if etag is None else {"If-None-Match": etag}
        response = self._send("GET", path, headers=headers)
        if response.status_code == HTTPStatus.NOT_MODIFIED:
            return None
        return parse(model, response), response.headers.get("ETag")

    def _events_of_one_connection(self, job_id: str, after: int) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
        path = f"{_job_path(job_id)}/events"
        with self._http.stream("GET", path, headers=headers, timeout=STREAM_SILENCE) as response:
            if not response.is_success:
                response.read()
            check(response)
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise AnswerUnreadable(str(response.request.url), "no event stream")
            for message in messages(lines(response.iter_text())):
                event = parse_json(Event, message.data, str(response.request.url))
                if event.id > after:
                    yield event

    def _send(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, str | float] | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 0.0,
    ) -> httpx.Response:
        timeout = httpx.Timeout(self._timeout, read=self._timeout + patience)
        with self._reaching():
            response = self._http.request(
                method, path, json=json, params=params, headers=headers, timeout=timeout
            )
        check(response)
        return response

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Unreachable(self.base_url, error) from None


def _job_path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _dataset_path(name: str) -> str:
    return f"/v1/datasets/{quote(name, safe='')}"


def _experiment_path(experiment_id: str) -> str:
    return f"/v1/experiments/{quote(experiment_id, safe='')}"
