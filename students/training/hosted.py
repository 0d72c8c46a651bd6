"""The hosted trainer: a job at an upstream by OpenAI's routes. Whatever fails in between, one job, and its result kept.

A file of the same content is uploaded once; a job is looked for by its metadata key before one is created, and after a
response that was lost again, for as long as it could still appear.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from capture.db import Store
from capture.errors import OperationError, RefusedError, StillhouseError, UpstreamAwayError
from capture.rows import count_tokens
from capture.settings import PriceSettings, UpstreamSettings, secret
from students.training.hosted_calls import MARK, Calls, JobRequest, RemoteEvent, RemoteJob, TroubleError, open_calls
from students.training.hosted_memory import HostedRun, Memory
from students.training.pricing import training_cost
from students.training.rows import read_rows
from students.training.trainer import Artefact, Estimate, Progress, TrainingPlan

TURN_TOKENS = 4  # around a message: OpenAI's cookbook, "how to count tokens with tiktoken"
NO_KEY = "no worker key: set worker_key_env to train there"
EARLIER_S = 300  # clocks differ
_IN_PREPARATION = ("pending", "running", "notRunning", "not_running")  # a file's, at Azure


@dataclass(frozen=True)
class Pace:
    """How often and how long. `settle_s`: how long after a lost response a job may still appear at its server."""

    poll_s: float = 10.0
    longest_pause_s: float = 60.0
    settle_s: float = 60.0
    patience_s: float = 3600.0  # with a server that does not answer, while no job can be there
    timeout_s: float = 60.0


@dataclass(frozen=True)
class _Step:
    """What one look brought: news, and whether the run has ended, or failed and why."""

    news: tuple[Progress, ...] = ()
    ended: bool = False
    failure: StillhouseError | None = None


class HostedTrainer:
    """Runs are named by their plan's name. `pause` waits, or raises what ends the worker."""

    def __init__(
        self,
        upstream: str,
        settings: UpstreamSettings,
        store: Store,
        prices: Mapping[str, PriceSettings],
        pause: Callable[[float], None] = time.sleep,
        pace: Pace = Pace(),
    ) -> None:
        self._upstream, self._settings, self._prices = upstream, settings, prices
        self._memory = Memory(store, upstream)
        self._pause, self._pace = pause, pace

    def estimate(self, plan: TrainingPlan) -> Estimate:
        """Tokens by OpenAI's encoding, times the epochs; USD by the settings' price for training, None without one."""
        counts = [_tokens(row) for row in read_rows(plan.rows)]
        epochs = plan.hyperparameters.get("n_epochs", "auto")
        tokens = round(sum(counts) * (epochs if isinstance(epochs, int | float) else plan.epochs))
        return Estimate(rows=len(counts), tokens=tokens, seconds=0.0, cost_usd=self._cost(plan.base, tokens))

    def start(self, plan: TrainingPlan) -> str:
        """See Trainer.start. Nothing is sent yet: `watch` does all of it, so that it can be cancelled at any time."""
        if not self._memory.has(plan.name):  # else there may be a job, whatever has changed here since
            self._check(plan)
            self._memory.begin(plan)
        return plan.name

    def _check(self, plan: TrainingPlan) -> None:
        if not self._settings.training_allowed:
            raise RefusedError(f"upstreams.{self._upstream} has training_allowed = false: nothing is trained there")
        if not secret(self._settings, worker=True):
            raise RefusedError(f"upstreams.{self._upstream}: {NO_KEY}")
        count = sum(1 for _ in read_rows(plan.rows))
        if count < plan.minimum_rows:
            raise RefusedError(f"{count} rows, at least {plan.minimum_rows} are needed")

    def watch(self, run: str) -> Iterator[Progress]:
        """See Trainer.watch. A server that is away is waited for; why, is told once."""
        last, told, since, failures = Progress(step=0, total_steps=0), "", 0.0, 0
        while True:
            known = self._memory.load(run)
            if known.result is not None:
                return
            try:
                with self._calls() as calls:
                    step = self._begin(known, calls) if known.job_id is None else self._follow(known, calls, last)
            except TroubleError as trouble:
                failures, since = failures + 1, since or time.monotonic()
                if self._weigh(trouble, self._memory.load(run), time.monotonic() - since):
                    return
                reason = str(trouble)
                yield msgspec.structs.replace(last, said=None if reason == told else f"{self._upstream}: {reason}")
                told = reason
                self._pause(min(self._pace.longest_pause_s, self._pace.poll_s * 2 ** min(failures, 8)))
                continue
            told, since, failures = "", 0.0, 0
            for last in step.news:
                yield last
            last = msgspec.structs.replace(last, said=None)
            if step.failure is not None:
                raise step.failure
            if step.ended:
                return
            yield last
            self._pause(self._pace.poll_s)

    def cancel(self, run: str) -> None:
        """See Trainer.cancel. The wish is kept, and passed on until the job has ended."""
        self._memory.change(run, cancel_asked=True)

    def artefact(self, run: str) -> Artefact | None:
        """See Trainer.artefact."""
        return self._memory.load(run).result

    def _calls(self) -> AbstractContextManager[Calls]:
        """The key is read again each time, so that it can be rotated."""
        key = secret(self._settings, worker=True)
        if not key:
            raise TroubleError(NO_KEY, final=True)
        return open_calls(self._settings, key, self._pace.timeout_s)

    def _weigh(self, trouble: TroubleError, known: HostedRun, lasting_s: float) -> bool:
        """Whether the run ends, cancelled. Raises what ends it otherwise.

        A job that may be there is never let go of for a server that is away or a key that is not good.
        """
        at_stake = known.asked_at is not None or known.job_id is not None
        if trouble.final and not at_stake:
            raise RefusedError(f"{self._upstream}: {trouble}") from trouble
        if trouble.status == 404 and known.job_id is not None:
            raise OperationError(f"{self._upstream} has no job {known.job_id} any more") from trouble
        if lasting_s > self._pace.patience_s and (trouble.nonsense or not at_stake):
            raise UpstreamAwayError(f"{self._upstream}: {trouble}: given up after {lasting_s:.0f} s") from trouble
        return known.cancel_asked and not at_stake

    # before there is a job

    def _begin(self, known: HostedRun, calls: Calls) -> _Step:
        """Finds the job or makes it."""
        jobs = calls.jobs(known.run)
        job = None if jobs is None else self._ours(known, jobs)
        if job is None and known.asked_at is not None:
            if jobs is None:
                raise OperationError(
                    f"{self._upstream} lists no jobs, so whether the one of {known.run} was created cannot be told: "
                    "look there, and start a new one if there is none"
                )
            if time.time() < known.asked_at + self._pace.settle_s:
                return _Step()
        if job is None and known.cancel_asked:
            return _Step(ended=True)
        if job is None:
            job = self._create(known, calls)
        if job is None:
            return _Step()
        self._memory.change(known.run, job_id=job.id)
        return _Step((Progress(step=0, total_steps=0, said=f"job {job.id} at {self._upstream}"),))

    def _ours(self, known: HostedRun, jobs: list[RemoteJob]) -> RemoteJob | None:
        """The oldest job of this run; where the server keeps no metadata, one for the same file that nobody claims."""
        marked = [job for job in jobs if job.metadata is not None and job.metadata.get(MARK) == known.run]
        if marked or known.asked_at is None or known.file_id is None:
            return next(iter(marked), None)
        earliest = known.asked_at - EARLIER_S
        alike = (
            job
            for job in jobs
            if job.metadata is None and job.training_file == known.file_id and job.created_at >= earliest
        )
        return next((job for job in alike if not self._memory.is_claimed(job.id)), None)

    def _create(self, known: HostedRun, calls: Calls) -> RemoteJob | None:
        """A new job; None while its file is being prepared. That it is asked for is written down first."""
        training_file = self._uploaded(known.rows, calls, known)
        held = [self._uploaded(Path(path), calls) for path in known.plan.validation_rows]
        if None in (training_file, *held):
            return None
        request = JobRequest(
            name=known.run,
            base=known.plan.base,
            training_file=str(training_file),
            validation_file=held[0] if held else None,
            suffix=known.plan.suffix,
            seed=known.plan.seed,
            hyperparameters=known.plan.hyperparameters,
        )
        self._memory.change(known.run, asked_at=time.time())
        try:
            return calls.create(request)
        except TroubleError as trouble:
            if not trouble.maybe_done:
                self._memory.change(known.run, asked_at=None)
            raise

    def _uploaded(self, path: Path, calls: Calls, known: HostedRun | None = None) -> str | None:
        """The file at the upstream; None while it is being prepared there. Raises RefusedError for one that is bad."""
        digest = _hash(path)
        filename = f"stillhouse-{digest[:32]}.jsonl"
        file_id = self._memory.uploaded(digest)
        status = calls.file_status(file_id) if file_id else None
        if status is None:
            file_id = calls.find_file(filename) or calls.upload(path, filename)
            status = calls.file_status(file_id)
        if known is not None:
            self._memory.change(known.run, sha256=digest, file_id=file_id)
        if status == "error":
            raise RefusedError(f"{self._upstream} cannot use the training file {file_id}: see its status there")
        return None if status in _IN_PREPARATION else file_id

    def _cancel_doubles(self, known: HostedRun, calls: Calls) -> None:
        """A request that was thought lost may have arrived very late: its job is stopped."""
        for job in calls.jobs(known.run) or ():
            marked = job.metadata is not None and job.metadata.get(MARK) == known.run
            if marked and job.id != known.job_id and not job.finished:
                _try_to_cancel(calls, job.id)

    # while there is one

    def _follow(self, known: HostedRun, calls: Calls, last: Progress) -> _Step:
        """One look at the job and its events. A status that is not known is one of a job that goes on."""
        job_id = str(known.job_id)
        if known.cancel_asked:
            _try_to_cancel(calls, job_id)
        self._cancel_doubles(known, calls)
        job = calls.job(job_id)
        events = calls.events(job_id, known.last_event)
        news = tuple(_progress(events, last))
        if events:
            self._memory.change(known.run, last_event=events[-1].id)
        if job.status == "cancelled":
            return _Step(news, ended=True)
        if job.status == "failed" or (job.finished and job.error and not job.model):
            reason = job.error or f"it ended as {job.status}"
            return _Step(news, failure=OperationError(f"{self._upstream}: job {job_id} failed: {reason}"))
        if job.status == "succeeded" or job.finished:
            if job.model is None:
                raise TroubleError(f"job {job_id} has {job.status}, and names no model", nonsense=True)
            self._memory.finish(known.run, self._artefact(known.plan, job, news[-1] if news else last))
            return _Step(news, ended=True)
        return _Step(news)

    def _artefact(self, plan: TrainingPlan, job: RemoteJob, last: Progress) -> Artefact:
        tokens = job.trained_tokens
        return Artefact(
            folder="",
            weights_hash="",
            trained_tokens=tokens or 0,
            rows=sum(1 for _ in read_rows(plan.rows)),
            dropped={},
            steps=last.step,
            loss=last.loss or 0.0,
            validation_loss=last.validation_loss,
            seconds=0.0,
            model=job.model,
            cost_usd=None if tokens is None else self._cost(plan.base, tokens),
        )

    def _cost(self, model: str, tokens: int) -> float | None:
        return training_cost(model, tokens, self._prices)


def _try_to_cancel(calls: Calls, job_id: str) -> None:
    """One that has ended says no; whatever it is, the next look tells."""
    try:
        calls.cancel(job_id)
    except TroubleError as trouble:
        if not trouble.final:
            raise


def _progress(events: list[RemoteEvent], last: Progress) -> Iterator[Progress]:
    """Each event as progress; figures that it does not tell stay what they were."""
    for event in events:
        numbers = event.numbers
        step = max(last.step, int(numbers.get("step", last.step)))
        last = Progress(
            step=step,
            total_steps=max(step, int(numbers.get("total_steps", last.total_steps))),
            loss=numbers.get("train_loss", last.loss),
            validation_loss=numbers.get("full_valid_loss", numbers.get("valid_loss", last.validation_loss)),
            said=event.message,
        )
        yield last


def _tokens(row: Mapping[str, object]) -> int:
    messages = row["messages"]
    if not isinstance(messages, list):
        return 0
    return sum(count_tokens(str(message.get("content") or "")) + TURN_TOKENS for message in messages)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
