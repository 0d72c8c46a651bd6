"""OpenAI's files and fine-tuning routes on a real socket, which can fail at any of them, before or after the deed."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from tests.fakes.listening import Listening

Fault = Literal["500", "429", "lost", "hang", "late", "nonsense", "html", "401"]
"""500, 429, 401, html: refused before anything is done. lost: done, then the connection is torn. hang: done, no answer.
late: the deed is done after the client has given up. nonsense: done, and JSON of another kind is the answer."""

LATE_S = 0.25
HUNG_S = 0.3


class TuningServer(Listening):
    """Use as a context manager. `fail(step, fault, times)`: the next calls of a step meet that fault.

    Steps: upload, file, files, create, jobs, job, events, cancel. A job moves a status on each time that it is looked
    at: through `statuses`.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.statuses = ["validating_files", "queued", "paused_for_tea", "running", "succeeded"]
        self.keeps_metadata = True
        self.lists_jobs = True
        self.preparing = 0  # looks at a file until it is processed, as at Azure
        self.queries: list[str] = []
        self.calls: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.failure: dict[str, Any] | None = None
        self.on_call: Callable[[str, str], bool] = lambda _moment, _step: False
        """Called with "before" or "after" and the step, around each deed; True: nobody gets an answer any more."""
        self._faults: dict[str, list[Fault]] = {}
        self._lock = threading.RLock()
        super().__init__()

    def fail(self, step: str, fault: Fault, times: int = 1) -> None:
        self._faults.setdefault(step, []).extend([fault] * times)

    def _next_fault(self, step: str) -> Fault | None:
        with self._lock:
            self.calls[step] += 1
            waiting = self._faults.get(step)
            return waiting.pop(0) if waiting else None

    # the deeds

    def upload(self, body: bytes, _query: dict[str, list[str]]) -> dict[str, Any]:
        named = re.search(rb'filename="([^"]+)"', body)
        assert named is not None
        with self._lock:
            file_id = f"file-{len(self.files) + 1}"
            made = {"id": file_id, "object": "file", "bytes": len(body), "created_at": int(time.time())}
            self.files[file_id] = {**made, "filename": named[1].decode(), "purpose": "fine-tune", "status": "processed"}
            return self.files[file_id]

    def create(self, body: bytes, _query: dict[str, list[str]]) -> dict[str, Any]:
        asked = json.loads(body)
        with self._lock:
            job_id = f"ftjob-{len(self.jobs) + 1}"
            self.jobs[job_id] = {
                "id": job_id,
                "object": "fine_tuning.job",
                "created_at": int(time.time()),
                "looks": -1,
                "status": self.statuses[0],
                "model": asked["model"],
                "training_file": asked["training_file"],
                "validation_file": asked.get("validation_file"),
                "fine_tuned_model": None,
                "finished_at": None,
                "trained_tokens": None,
                "organization_id": "org",
                "result_files": [],
                "hyperparameters": {},
                "seed": asked.get("seed", 0),
                "error": None,
                "metadata": asked.get("metadata") if self.keeps_metadata else None,
                "asked": asked,
            }
            return self.jobs[job_id]

    def list_files(self, _body: bytes, _query: dict[str, list[str]]) -> dict[str, Any]:
        return {"object": "list", "data": list(self.files.values())[::-1], "has_more": False}

    def list_jobs(self, _body: bytes, query: dict[str, list[str]]) -> dict[str, Any]:
        if not self.lists_jobs:
            raise KeyError
        tags = {name[9:-1]: values[0] for name, values in query.items() if name.startswith("metadata[")}
        found = [
            job
            for job in self.jobs.values()
            if not self.keeps_metadata or tags.items() <= (job["metadata"] or {}).items()
        ]
        return {"object": "list", "data": found[::-1], "has_more": False}

    def look_at_file(self, file_id: str) -> dict[str, Any]:
        with self._lock:
            self.preparing -= 1
            return {**self.files[file_id], **({"status": "pending"} if self.preparing >= 0 else {})}

    def look(self, job_id: str) -> dict[str, Any]:
        with self._lock:
            job = self.jobs[job_id]
            if job["finished_at"] is None:
                job["looks"] = min(job["looks"] + 1, len(self.statuses) - 1)
                job["status"] = self.statuses[job["looks"]]
            if job["status"] == "succeeded" and job["finished_at"] is None:
                made = {"finished_at": int(time.time()), "fine_tuned_model": f"ft:{job['model']}:org::{job_id[6:]}"}
                job.update(made, trained_tokens=2_000_000)
            if job["status"] == "failed":
                job.update(finished_at=int(time.time()), error=self.failure)
            return job

    def cancel(self, job_id: str) -> dict[str, Any]:
        with self._lock:
            job = self.jobs[job_id]
            job.update(status="cancelled", finished_at=int(time.time()))
            return job

    def events(self, job_id: str) -> dict[str, Any]:
        looks = self.jobs[job_id]["looks"]
        data = [
            {
                "id": f"ftevent-{number}",
                "object": "fine_tuning.job.event",
                "created_at": number,
                "level": "info",
                "message": f"step {number}",
                "type": "metrics",
                "data": {"step": number, "total_steps": 4, "train_loss": 1.0 / (number + 1), "odd": "x"},
            }
            for number in range(looks + 1)
        ]
        return {"object": "list", "data": data[::-1], "has_more": False}

    # the socket

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._serve("GET", b"")

            def do_POST(self) -> None:
                self._serve("POST", self.rfile.read(int(self.headers.get("content-length") or 0)))

            def _serve(self, method: str, body: bytes) -> None:
                fake.headers.append({name.lower(): value for name, value in self.headers.items()})
                parts = urlsplit(self.path)
                fake.queries.append(parts.query)
                step, deed = _route(fake, method, parts.path.removeprefix("/v1/"), body, parse_qs(parts.query))
                with suppress(BrokenPipeError, ConnectionResetError):
                    self._answer(step, fake._next_fault(step), deed)

            def _answer(self, step: str, fault: Fault | None, deed: Callable[[], dict[str, Any]]) -> None:
                if fault in ("500", "429", "401"):
                    self._send(int(fault), {"error": {"message": "not now", "type": "x", "param": None, "code": None}})
                    return
                if fault == "html":
                    self._send(200, "<html>", "text/html")
                    return
                if fault == "late":
                    time.sleep(LATE_S)
                if fake.on_call("before", step):
                    self.close_connection = True
                    return
                try:
                    found: Any = deed()
                except KeyError:
                    self._send(404, {"error": {"message": "no such thing", "type": "x", "param": None, "code": None}})
                    return
                if fake.on_call("after", step):
                    self.close_connection = True
                    return
                if fault == "hang":
                    time.sleep(HUNG_S)
                if fault in ("lost", "hang", "late"):
                    self.close_connection = True
                    self.connection.close()
                    return
                self._send(200, [1, 2] if fault == "nonsense" else found)

            def _send(self, status: int, found: Any, kind: str = "application/json") -> None:
                data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _route(
    fake: TuningServer, method: str, path: str, body: bytes, query: dict[str, list[str]]
) -> tuple[str, Callable[[], dict[str, Any]]]:
    if path == "files":
        return (
            ("upload", lambda: fake.upload(body, query))
            if method == "POST"
            else ("files", lambda: fake.list_files(body, query))
        )
    if path.startswith("files/"):
        return "file", lambda: fake.look_at_file(path.split("/")[1])
    if path == "fine_tuning/jobs":
        return (
            ("create", lambda: fake.create(body, query))
            if method == "POST"
            else ("jobs", lambda: fake.list_jobs(body, query))
        )
    job_id = path.split("/")[2]
    if path.endswith("/cancel"):
        return "cancel", lambda: fake.cancel(job_id)
    if path.endswith("/events"):
        return "events", lambda: fake.events(job_id)
    return "job", lambda: fake.look(job_id)
