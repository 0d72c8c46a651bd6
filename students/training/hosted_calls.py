"""The calls that a hosted training makes, through the `openai` SDK: one try each, answers as plain data, one error."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import openai

from capture.sdk import open_client
from capture.settings import UpstreamSettings

MARK = "stillhouse_run"
"""The metadata key that a job is found again by."""

LISTED_AT_MOST = 1000
_UNSUPPORTED = (400, 404, 405, 422, 501)

T = TypeVar("T")


class TroubleError(Exception):
    """A call that did not do what it should. `final`: the server says no, and the same call would get the same answer.

    `maybe_done`: what was asked for may have been done all the same. `nonsense`: the answer cannot be understood.
    """

    def __init__(
        self, reason: str, *, status: int = 0, final: bool = False, maybe_done: bool = True, nonsense: bool = False
    ) -> None:
        super().__init__(reason)
        self.status, self.final, self.maybe_done, self.nonsense = status, final, maybe_done, nonsense


@dataclass(frozen=True)
class RemoteJob:
    """A job as its server tells it. Times are Unix seconds; `metadata` is None where the server keeps none."""

    id: str
    status: str
    created_at: float
    training_file: str | None = None
    base: str | None = None
    model: str | None = None
    finished: bool = False
    trained_tokens: int | None = None
    error: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True)
class RemoteEvent:
    """One event; `numbers` are those of its figures that are numbers."""

    id: str
    message: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class JobRequest:
    """What a job is created with; `name` goes into its metadata and the idempotency key."""

    name: str
    base: str
    training_file: str
    validation_file: str | None = None
    suffix: str = ""
    seed: int | None = None
    hyperparameters: Mapping[str, int | float | str] = field(default_factory=dict)


@contextmanager
def open_calls(upstream: UpstreamSettings, key: str, timeout_s: float) -> Iterator["Calls"]:
    """Calls with this key."""
    with open_client(upstream, key, retries=0, timeout_s=timeout_s) as client:
        yield Calls(client, upstream.total_timeout_s)


class Calls:
    """Each raises TroubleError."""

    def __init__(self, client: openai.OpenAI, upload_timeout_s: float) -> None:
        self._files, self._jobs = client.files, client.fine_tuning.jobs
        self._upload_timeout_s = upload_timeout_s

    def file_status(self, file_id: str) -> str | None:
        """None when the server does not know the file."""
        try:
            return _asked(lambda: str(self._files.retrieve(file_id).status), "looking at the file")
        except TroubleError as trouble:
            if trouble.status == 404:
                return None
            raise

    def find_file(self, filename: str) -> str | None:
        """A file of this name; None too where the server does not list files."""

        def look() -> str | None:
            listed = islice(self._files.list(purpose="fine-tune", limit=100), LISTED_AT_MOST)
            return next((str(one.id) for one in listed if getattr(one, "filename", None) == filename), None)

        try:
            return _asked(look, "looking for the file")
        except TroubleError as trouble:
            if trouble.status in _UNSUPPORTED:
                return None
            raise

    def upload(self, path: Path, filename: str) -> str:
        def send() -> str:
            with path.open("rb") as content:
                given = (filename, content, "application/jsonl")
                made = self._files.create(file=given, purpose="fine-tune", timeout=self._upload_timeout_s)
            return _name(made)

        return _asked(send, "uploading the file")

    def jobs(self, name: str) -> list[RemoteJob] | None:
        """Jobs that may be the one of this name, the oldest first; None where the server does not list jobs."""
        marked: dict[str, Any] = {"metadata": {MARK: name}}
        for filters in (marked, {}):
            try:
                found = _asked(partial(self._listed, filters), "looking for the job")
            except TroubleError as trouble:
                if trouble.status in _UNSUPPORTED:
                    continue
                raise
            return sorted(found, key=lambda job: job.created_at)
        return None

    def _listed(self, filters: Mapping[str, Any]) -> list[RemoteJob]:
        listed: Iterable[Any] = self._jobs.list(limit=100, **filters)
        return [_job(one) for one in islice(listed, LISTED_AT_MOST)]

    def create(self, request: JobRequest) -> RemoteJob:
        chosen = {name: value for name, value in request.hyperparameters.items() if value != "auto"}
        optional = {
            "validation_file": request.validation_file,
            "suffix": request.suffix or None,
            "seed": request.seed,
            "method": {"type": "supervised", "supervised": {"hyperparameters": chosen}} if chosen else None,
        }
        given: dict[str, Any] = {name: value for name, value in optional.items() if value is not None}

        def send() -> RemoteJob:
            made = self._jobs.create(
                model=request.base,
                training_file=request.training_file,
                metadata={MARK: request.name},
                extra_headers={"Idempotency-Key": request.name},
                **given,
            )
            return _job(made)

        return _asked(send, "creating the job")

    def job(self, job_id: str) -> RemoteJob:
        return _asked(lambda: _job(self._jobs.retrieve(job_id)), "looking at the job")

    def cancel(self, job_id: str) -> None:
        _asked(lambda: self._jobs.cancel(job_id), "cancelling the job")

    def events(self, job_id: str, after: str | None) -> list[RemoteEvent]:
        """Those that came after the event of that id, oldest first; nothing where the server tells none."""

        def look() -> list[RemoteEvent]:
            news: list[RemoteEvent] = []
            for one in islice(self._jobs.list_events(job_id, limit=100), LISTED_AT_MOST):
                if one.id == after:
                    break
                news.append(RemoteEvent(_name(one), str(one.message), _numbers(getattr(one, "data", None))))
            return news[::-1]

        try:
            return _asked(look, "reading the events")
        except TroubleError as trouble:
            if trouble.final or trouble.nonsense:
                return []
            raise


def _asked(call: Callable[[], T], doing: str) -> T:
    """The one place where errors of the SDK, of the wire and of what cannot be understood become one."""
    try:
        return call()
    except openai.APIStatusError as error:
        status = error.status_code
        passing = status in (408, 409, 429) or status >= 500
        said = str(getattr(error, "message", ""))[:300]
        reason = f"{doing}: status {status}: {said}"
        raise TroubleError(reason, status=status, final=not passing, maybe_done=passing and status != 429) from error
    except openai.APIConnectionError as error:
        cause = type(error.__cause__ or error).__name__
        raise TroubleError(f"{doing}: no answer ({cause})") from error
    except (openai.OpenAIError, httpx2.HTTPError, ValueError, AttributeError, TypeError) as error:
        raise TroubleError(f"{doing}: an answer that cannot be understood", nonsense=True) from error


def _job(found: Any) -> RemoteJob:
    """Raises ValueError, AttributeError or TypeError for what is no job."""
    error, metadata = getattr(found, "error", None), getattr(found, "metadata", None)
    tokens, model = getattr(found, "trained_tokens", None), getattr(found, "fine_tuned_model", None)
    return RemoteJob(
        id=_name(found),
        status=str(found.status),
        created_at=float(getattr(found, "created_at", 0) or 0),
        training_file=getattr(found, "training_file", None),
        base=getattr(found, "model", None),
        model=model if isinstance(model, str) and model else None,
        finished=bool(getattr(found, "finished_at", None)),
        trained_tokens=tokens if isinstance(tokens, int) and tokens >= 0 else None,
        error=str(getattr(error, "message", None) or "") or None,
        metadata=dict(metadata) if metadata else None,
    )


def _name(found: Any) -> str:
    if not isinstance(found.id, str) or not found.id:
        raise ValueError("no id")
    return found.id


def _numbers(data: Any) -> dict[str, float]:
    if not isinstance(data, dict):
        return {}
    numbers = {name: value for name, value in data.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
