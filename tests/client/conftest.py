"""A real HTTP server that plays Thaw's API: each test says what it answers."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from client.api import ThawClient
from client.cli import app
from client.processes import ROOT

SPEC = {"dataset": {"path": "hymenoptera"}}


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Reply:
    body: object = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the body after which the connection breaks

    @property
    def content(self):
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def answer(self):
        parts = urlsplit(self.path)
        body = self.read_chunks() if "Transfer-Encoding" in self.headers else self.read_whole()
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, parts.path, parse_qs(parts.query), headers, body)
        self.server.api.requests.append(request)
        self.send(self.server.api.reply_to(request))

    def read_whole(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def read_chunks(self):
        """A body whose length nobody knew when it began."""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, reply):
        self.send_response(reply.status)
        headers = {"Content-Type": "application/json", **reply.headers}
        if reply.status not in (204, 304):
            headers.setdefault("Content-Length", str(len(reply.content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.content[: reply.cut_after])
        if reply.cut_after is not None:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  http.server's names

    def log_message(self, *args):
        """Nothing: a test's output is pytest's."""


class Server(ThreadingHTTPServer):
    api: "Api"

    def handle_error(self, request, client_address):
        """Nothing: clients hang up in the middle of an answer here, on purpose."""


class Api:
    """The server's side of a test."""

    Reply = Reply

    def __init__(self):
        self.requests = []
        self._replies = defaultdict(list)
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.api = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def on(self, method, path, *replies):
        """Answers requests with the replies in turn, and with the last one from then on.

        A reply is a `Reply`, a function from request to reply, or a body to send with status 200.
        """
        self._replies[method, path] = list(replies)

    def reply_to(self, request):
        replies = self._replies[request.method, request.path]
        if not replies:
            return self.refusal(404, "there is no such address")
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if callable(reply):
            reply = reply(request)
        return reply if isinstance(reply, Reply) else Reply(reply)

    def paths(self):
        return [f"{request.method} {request.path}" for request in self.requests]

    @staticmethod
    def refusal(status, message, param=None, code=None, details=()):
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        return Reply({"error": error | ({"details": list(details)} if details else {})}, status)

    @staticmethod
    def page(*items, has_more=False):
        ids = [item.get("id") for item in items]
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        return {
            "object": "list",
            "data": list(items),
            "first_id": first,
            "last_id": last,
            "has_more": has_more,
        }

    @staticmethod
    def file(content, name="model.safetensors", etag=None, ranges=True):
        """A function that serves a file as the server does: ranges, If-Range, its SHA-256 as ETag."""
        etag = etag or f'"{hashlib.sha256(content).hexdigest()}"'

        def serve(request):
            headers = {"ETag": etag, "Content-Disposition": f'attachment; filename="{name}"'}
            wanted = request.headers.get("range")
            if not ranges or not wanted or request.headers.get("if-range", etag) != etag:
                return Reply(content, 200, headers)
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1 if last else len(content)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            return Reply(content[start:stop], 206, headers)

        return serve

    @staticmethod
    def broken(serve, after):
        """The same, with the connection breaking after so many bytes of the body."""

        def serve_part(request):
            reply = serve(request)
            # The one byte that a download looks at first is not what is to break.
            return Reply(reply.body, reply.status, reply.headers, after if len(reply.content) > 1 else None)

        return serve_part


@pytest.fixture
def api():
    server = Api()
    yield server
    server.close()


@pytest.fixture
def client(api):
    with ThawClient(api.url, timeout=5, retry_pauses=(0.01, 0.01, 0.01)) as opened:
        yield opened


@pytest.fixture
def nobody():
    """The address of a port where nobody listens."""
    server = Server(("127.0.0.1", 0), Handler)
    server.server_close()
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def make_job():
    def make(status="running", **fields):
        job = {"object": "fine_tuning.job", "id": "job_1", "name": "ants", "metadata": {}, "status": status}
        empty = ("status_reason", "error", "progress", "worker", "parent", "best", "result", "started_at")
        job |= dict.fromkeys(empty)
        job |= {"created_at": 1_700_000_000, "attempt": 1, "max_attempts": 3, "spec": {}, "resolved_spec": {}}
        return job | fields

    return make


@pytest.fixture
def make_epoch():
    def make(number, **fields):
        return {
            "object": "fine_tuning.job.epoch",
            "stage": "head",
            "stage_index": 0,
            "epoch": number,
            "global_epoch": number,
            "attempt": 1,
            "lr": {"head": 0.01},
            "train": {"loss": 0.5, "accuracy": 0.75},
            "val": {"loss": 0.4, "accuracy": 0.8125},
            "images_per_second": 120.0,
            "seconds": {"data": 0.1, "train": 2.0, "val": 0.5, "checkpoint": 0.25},
            "peak_memory_bytes": 2**30,
            "created_at": 1_700_000_000 + number,
        } | fields

    return make


@pytest.fixture
def make_event():
    def make(number, message="something happened", level="info", **fields):
        event = {"object": "fine_tuning.job.event", "id": number, "type": "job.note", "level": level}
        return event | {"message": message, "data": {}, "created_at": 1_700_000_000 + number} | fields

    return make


@pytest.fixture
def plan_answer():
    """A plan of two stages: three epochs of the head at one rate, then two of everything at falling rates."""
    head = {"name": "head", "modules": ["fc"], "tensors": 2, "parameters": 1026, "factor": 10.0}
    rest = {
        "name": "rest",
        "modules": [f"layer{n}" for n in range(8)],
        "tensors": 60,
        "parameters": 11_176_512,
    }
    steps = {"steps_per_epoch": 8, "batch_norm": "eval", "optimizer": "sgd"}
    constant = {"head": 0.1}
    features = {"before": "fc", "views": 2, "train_images": 244, "val_images": 153, "bytes": 1_312_768}
    features |= {"kept": "memory", "saving": 0.664}
    return {
        "object": "fine_tuning.plan",
        "backbone": {"name": "resnet18", "parameters": 11_177_538},
        "classes": ["ants", "bees"],
        "images": {"train": 244, "val": 153},
        "head": {"modules": ["fc"], "action": "replaced", "reason": "1000 classes become 2", "classes": 2},
        "preprocessing": {"size": 224},
        "stages": [
            {
                "name": "head",
                "epochs": 3,
                "augmentation": "none",
                "features_once": True,
                **steps,
                "features": features,
            }
            | {"frozen": [{"module": "conv1", "parameters": 9408}], "frozen_parameters": 11_176_512}
            | {"trained_parameters": 1026, "groups": [head]}
            | {"lr": [{"epoch": n, "first": constant, "last": constant} for n in (1, 2, 3)]},
            {"name": "all", "epochs": 2, "augmentation": "standard", "features_once": False, **steps}
            | {"frozen": [], "frozen_parameters": 0, "trained_parameters": 11_177_538}
            | {"groups": [head, {**rest, "factor": 0.9}]}
            | {
                "lr": [
                    {
                        "epoch": 1,
                        "first": {"head": 0.1, "rest": 0.009},
                        "last": {"head": 0.06, "rest": 0.0054},
                    },
                    {"epoch": 2, "first": {"head": 0.05, "rest": 0.0045}, "last": {"head": 0, "rest": 0}},
                ]
            },
        ],
        "warnings": ["layer2 is frozen between trained layers"],
    }


@pytest.fixture
def thaw(api):
    """Runs a command in this process, against the test's server."""

    def run(*arguments, url=api.url, **options):
        return CliRunner().invoke(app, ["--url", url, *arguments], **options)

    return run


@pytest.fixture
def start(api):
    """Starts the real command."""
    started = []

    def run(*arguments, modules=""):
        environment = os.environ | {"THAW_URL": api.url, "PYTHONPATH": f"{modules}{os.pathsep}{ROOT}"}
        command = [sys.executable, "-m", "client", *arguments]
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=modules or None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(SPEC))
    return str(path)


@pytest.fixture
def make_experiment():
    """An experiment of two variants with two seeds; `values` are those of the jobs that have succeeded."""

    def make(status="running", values=(0.9, 0.8, None, None), **fields):
        cells = [(variant, seed) for seed in (0, 1) for variant in ("joint", "two_stage")]
        jobs = [
            {"id": f"job_{number}", "variant": variant, "seed": seed, "value": value}
            | {"status": "queued" if value is None else "succeeded"}
            | {"best_epoch": None if value is None else 7, "seconds": None if value is None else 81.5}
            for number, ((variant, seed), value) in enumerate(zip(cells, values, strict=True))
        ]
        row = {"n": 2, "mean": 0.875, "std": 0.0125, "best_epoch": 7.5, "seconds": 81.5, "failed": 0}
        pair = {"n": 2, "mean_difference": 0.0625, "std_difference": 0.01, "p_value": 0.03}
        return {
            "object": "experiment",
            "id": "exp_1",
            "name": "which",
            "metadata": {},
            "created_at": 1_700_000_000,
            "status": status,
            "progress": {"queued": 2, "succeeded": 2},
            "spec": {},
            "variants": [{"name": name, "patch": {}} for name in ("joint", "two_stage")],
            "seeds": [0, 1],
            "metric": "val_accuracy",
            "jobs": jobs,
            "table": [row | {"variant": name, "values": {}} for name in ("joint", "two_stage")],
            "comparisons": [pair | {"a": "joint", "b": "two_stage", "p_adjusted": 0.06, "differs": False}],
            "test": "paired t-test",
            "answer": "it is too early to say",
        } | fields

    return make
