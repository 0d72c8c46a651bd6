"""The training loop: rows in, a finished student out, the same for the same plan however often it was interrupted."""

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from capture.errors import DiskError, OperationError, RefusedError
from students.training import artefact as finished
from students.training import checkpoints
from students.training.batches import epoch_ends, learning_rate, schedule
from students.training.checkpoints import Standing
from students.training.learner import Learner
from students.training.rows import Lesson, encode_rows, read_rows, split_validation
from students.training.trainer import Artefact, Progress, TrainingPlan

REPORT_EVERY_S = 0.5
_SMOOTHING = 0.9
_ROOM = 4  # times the base's weights: the merged model, the copy in the making, checkpoints

OnProgress = Callable[[Progress], None]


def train(plan: TrainingPlan, on_progress: OnProgress, should_stop: Callable[[], bool]) -> Artefact | None:
    """Trains in this process, from the last checkpoint on if there is one; None when told to stop.

    Raises RefusedError for too few usable rows or a base without a chat template, DiskError without room,
    OperationError when the loss is no number any more.
    """
    done = finished.find(plan.folder)
    if done is not None:
        return done
    _check_room(plan)
    torch.set_num_threads(plan.threads or os.cpu_count() or 1)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())  # not every CUDA kernel has one
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads it, and it took 5 % of a step
    tokenizer = _tokenizer(plan)
    run = _Run(plan, _course(plan, tokenizer), on_progress)
    if not run.go(should_stop):
        return None
    return finished.publish(run.learner, tokenizer, plan, run.summary())


@dataclass(frozen=True)
class _Course:
    """What is fixed before the first step: the rows, and which of them each step sees."""

    train: Sequence[Lesson]
    validation: Sequence[Lesson]
    dropped: dict[str, int]
    steps: Sequence[tuple[int, ...]]
    ends: frozenset[int]  # steps after which an epoch is over

    def rows(self, step: int) -> list[Lesson]:
        return [self.train[row] for row in self.steps[step]]

    def tokens(self, start: int, end: int) -> int:
        return sum(len(self.train[row].ids) for step in self.steps[start:end] for row in step)


@dataclass
class _Run:
    """One run from its last checkpoint to its end."""

    plan: TrainingPlan
    course: _Course
    on_progress: OnProgress
    learner: Learner = field(init=False)
    standing: Standing = field(init=False)
    best: list[torch.Tensor] | None = field(init=False, default=None)
    _begun: tuple[float, int, float] = field(init=False)  # time, step and seconds trained before
    _saved_at: float = field(init=False)
    _told_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.learner, self.standing = Learner(self.plan), Standing()
        saved = checkpoints.load(Path(self.plan.run_folder), self.plan)
        if saved is not None:
            self.standing, state = saved
            self.learner.load(state)
            self.best = state.get("best")
        now = time.monotonic()
        self._begun, self._saved_at = (now, self.standing.step, self.standing.seconds), now

    def go(self, should_stop: Callable[[], bool]) -> bool:
        """Steps until the end, or False when told to stop; what was learnt is saved either way."""
        total = len(self.course.steps)
        self._tell(force=True)
        while self.standing.step < total and not self._hopeless():
            if should_stop():
                self._save()
                return False
            self._step(total)
        if self.best is not None and self.plan.patience:
            self.learner.load_weights(self.best)
            self.standing.validation_loss = self.standing.best_validation_loss
        self._tell(force=True, said=self._early())
        return True

    def summary(self) -> Artefact:
        standing = self.standing
        return Artefact(
            folder=self.plan.folder,
            weights_hash="",
            trained_tokens=standing.trained_tokens,
            rows=len(self.course.train) + len(self.course.validation),
            dropped=self.course.dropped,
            steps=standing.step,
            loss=standing.loss or 0.0,
            validation_loss=standing.validation_loss,
            seconds=standing.seconds,
        )

    def _step(self, total: int) -> None:
        standing, rows = self.standing, self.course.rows(self.standing.step)
        loss = self.learner.step(rows, learning_rate(standing.step, total, self.plan.learning_rate))
        if not math.isfinite(loss):
            raise OperationError(f"the loss is no number any more at step {standing.step + 1}: lower the learning rate")
        standing.step += 1
        standing.trained_tokens += sum(len(row.ids) for row in rows)
        standing.loss = loss if standing.loss is None else _SMOOTHING * standing.loss + (1 - _SMOOTHING) * loss
        begun_at, _, seconds_before = self._begun
        standing.seconds = seconds_before + time.monotonic() - begun_at
        if standing.step in self.course.ends and self.course.validation:
            self._validate()
        self._tell()
        if time.monotonic() - self._saved_at >= self.plan.checkpoint_every_s:
            self._save()

    def _validate(self) -> None:
        rows, size = self.course.validation, self.plan.batch_size
        loss = self.learner.loss(rows[at : at + size] for at in range(0, len(rows), size))
        standing = self.standing
        standing.validation_loss = loss
        if standing.best_validation_loss is None or loss < standing.best_validation_loss:
            standing.best_validation_loss, standing.epochs_without_gain = loss, 0
            self.best = self.learner.weights() if self.plan.patience else None
        else:
            standing.epochs_without_gain += 1

    def _hopeless(self) -> bool:
        return 0 < self.plan.patience <= self.standing.epochs_without_gain

    def _early(self) -> str | None:
        """What is told of a run that ended before its last step."""
        if self.standing.step == len(self.course.steps):
            return None
        best = f"{self.standing.best_validation_loss:.3f}"
        return f"stopped early: the validation loss fell no lower than {best}; its best weights are kept"

    def _save(self) -> None:
        state = self.learner.state()
        if self.best is not None:
            state["best"] = self.best
        try:
            checkpoints.save(Path(self.plan.run_folder), self.plan, self.standing, state)
        except OSError as error:
            raise DiskError(f"{self.plan.run_folder}: no checkpoint could be written: {error.strerror}") from error
        self._saved_at = time.monotonic()

    def _tell(self, *, force: bool = False, said: str | None = None) -> None:
        now = time.monotonic()
        if not force and now - self._told_at < REPORT_EVERY_S:
            return
        self._told_at = now
        begun_at, begun_step, _ = self._begun
        standing, total = self.standing, len(self.course.steps)
        done = self.course.tokens(begun_step, standing.step)
        speed = done / (now - begun_at) if done else None
        self.on_progress(
            Progress(
                step=standing.step,
                total_steps=total,
                loss=standing.loss,
                validation_loss=standing.validation_loss,
                tokens_per_s=speed,
                seconds_left=self.course.tokens(standing.step, total) / speed if speed else None,
                said=said,
            )
        )


def _course(plan: TrainingPlan, tokenizer: Any) -> _Course:
    lessons = encode_rows(read_rows(plan.rows), tokenizer, plan.max_tokens)
    if len(lessons.kept) < plan.minimum_rows:
        left_out = ", ".join(f"{count} {reason}" for reason, count in lessons.dropped.items())
        raise RefusedError(
            f"{len(lessons.kept)} usable rows{f' ({left_out})' if left_out else ''}, at least {plan.minimum_rows} are "
            "needed: capture more traffic, or lower the dataset's filters"
        )
    rows, validation = split_validation(lessons.kept, 0 if plan.validation_rows else plan.validation)
    if plan.validation_rows:
        validation = list(encode_rows(read_rows(plan.validation_rows), tokenizer, plan.max_tokens).kept)
    steps = schedule([len(row.ids) for row in rows], plan.batch_size, plan.epochs, plan.seed)
    ends = epoch_ends(len(rows), plan.batch_size, len(steps))
    return _Course(rows, validation, dict(lessons.dropped), steps, ends)


def _tokenizer(plan: TrainingPlan) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(plan.base, local_files_only=True)
    if not tokenizer.chat_template or tokenizer.eos_token_id is None:
        raise RefusedError(f"the base {plan.base_name} has no chat template or no end-of-turn token: choose another")
    return tokenizer


def _check_room(plan: TrainingPlan) -> None:
    weights = sum(path.stat().st_size for path in Path(plan.base).glob("*.safetensors"))
    folder = Path(plan.folder).parent
    folder.mkdir(parents=True, exist_ok=True)
    Path(plan.run_folder).mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < _ROOM * weights:
        raise DiskError(f"{folder} has {free >> 20} MiB free, {_ROOM * weights >> 20} are needed: make room")
