"""A store with something of everything, as a console would find it after some weeks, for pages and their pictures."""

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import insert, update

from capture import datasets, discovery, feedback, full_text, keys, reviews
from capture.db import Store
from capture.graders import graders_of
from capture.settings import LoopSettings, Settings, TaskSettings, load
from capture.tables import audit, bodies, counters, exchanges, prompt_versions, scores, tombstones
from capture.tasks import sync_tasks
from capture.traffic import id_at
from students import registry, report, rollout_start, rollouts, turns
from students.observing import Mark
from students.policy import policy_of
from students.standing import Pair, standing_of
from students.tables import (
    evaluations,
    fine_tune_events,
    fine_tunes,
    leases,
    pairs,
    spend,
    student_servers,
    verdicts,
)
from students.tables import rollouts as rollout_table
from students.verdicts import decide
from tests.factories.store import answer_of, exchange_row, request_of

LABELS = ("billing", "bug", "account", "shipping", "refund", "feature")
TEXTS = {
    "billing": "I was charged twice for invoice {n}, please have a look",
    "bug": "The app crashes with code {n} whenever I open the settings",
    "account": "I cannot log in since yesterday, my user number is {n}",
    "shipping": "Wo bleibt mein Paket mit der Nummer {n}? Es ist seit Tagen unterwegs",
    "refund": "Ich möchte die Bestellung {n} zurückgeben und mein Geld zurück",
    "feature": "Could you add an export of report {n} to a spreadsheet",
}
HOSTILE = (
    '<script>alert("captured")</script> ![tracker](http://127.0.0.1:9/pixel.png) **bold** [link](http://127.0.0.1:9/) '
    "$x^2$ :red[not red] =HYPERLINK(1)"
)
SYSTEM = "You sort support tickets.\nAnswer with JSON: category, priority, summary."
SECOND_SYSTEM = SYSTEM + "\nA summary has at most twelve words."
DAY_S, HOUR_S = 86_400.0, 3600.0
FIRST_KIND, ROWS, STEP_S = 180, 120, 3.1
"""Exchanges of the task triage; rows of its evaluation; seconds that a step of training takes."""

OF_MARKUP = 11
"""The pair of each rollout that is about the exchange full of markup."""

UNDER_WAY = 40
"""Pairs at the stage that a rollout is seen at, fewer than the next step needs."""

DONE: tuple[dict[str, Any], ...] = (
    {"action": "reviews.add", "subject": "01a21dec4b4170000000000000000095", "detail": {"verdict": "accept"}},
    {"action": "datasets.build", "subject": "ds_triage_2", "detail": {"task": "triage"}},
    {"action": "students.train", "subject": "ftjob-done", "detail": {"base": "smollm2-135m-instruct"}},
    {"action": "rollouts.start", "subject": "ro_triage_2", "detail": {"dry_run": False, "reason": ""}},
)
"""What somebody did, as the audit trail has it, over and over."""

CONFIG = """
[gateway]
default_upstream = "stand-in"

[upstreams.stand-in]
base_url = "http://127.0.0.1:9/v1"
auth = "key"
api_key_env = "STAND_IN_KEY"
training_allowed = true

[upstreams.spare]
base_url = "http://127.0.0.1:10/v1"
auth = "key"
api_key_env = "STAND_IN_KEY"

[tasks.triage]
kind = "classification"
match = { model = "gpt-4.1", metadata = { app = "triage" } }
teacher = { upstream = "stand-in", model = "gpt-4.1" }
label = "/category"

[tasks.triage.graders.category]
type = "json_fields"
against = "truth"
fields = { category = 1.0 }

[tasks.triage.graders.summary]
type = "text_similarity"
field = "/summary"

[tasks.triage.rollout]
margin = 0.05
minimum_pairs = 60
gates = ["category"]

[tasks.digest]
kind = "text"
match = { metadata = { app = "digest" } }
teacher = { upstream = "stand-in", model = "gpt-4.1-mini" }
"""


@dataclass(frozen=True)
class World:
    """Ids of what was made, for deep links."""

    exchange: str
    hostile: str
    dataset: str
    fine_tune: str
    running_fine_tune: str
    student: str
    evaluation: str
    rollout: str
    rolled_back: str


def write_config(folder: Path) -> Path:
    """The stillhouse.toml that the full store belongs to."""
    file = folder / "stillhouse.toml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


def fill(store: Store, folder: Path, now: float | None = None) -> World:
    """Fills an empty store; `folder` holds the configuration and the data. Repeatable but for ids and times."""
    settings = load(write_config(folder), {}, data=folder)
    return _Maker(store, settings, time.time() if now is None else now).make()


class _Maker:
    def __init__(self, store: Store, settings: Settings, now: float) -> None:
        self.store, self.settings, self.now, self.hostile = store, settings, now, ""
        self.task: TaskSettings = settings.tasks["triage"]
        self.random = random.Random(4)
        self.ids: list[str] = []
        self.answers: list[str] = []

    def clock(self) -> float:
        return self.now

    def ago(self, hours: float) -> float:
        return self.now - hours * HOUR_S

    def make(self) -> World:
        sync_tasks(self.store, self.settings, self.clock)
        self._exchanges()
        self._unmatched()
        self._prompts()
        self.hostile = hostile = self._hostile()
        self._said()
        dataset = self._datasets()
        fine_tune, student = self._trained(dataset)
        running = self._training(dataset)
        evaluation = self._evaluation(dataset, student)
        rolled_back = self._rolled_back(student)
        rollout = self._rollout(student)
        self._turns(dataset, fine_tune, student, evaluation, rolled_back)
        self._paid()
        self._operations()
        return World(self.ids[101], hostile, dataset, fine_tune, running, student, evaluation, rollout, rolled_back)

    def _exchange(self, number: int, at: float, **overrides: Any) -> str:
        label = LABELS[number % len(LABELS)]
        text = TEXTS[label].format(n=self.random.randrange(10_000, 99_999))
        answer = msgspec.json.encode({"category": label, "priority": "normal", "summary": text[:40]}).decode()
        values: dict[str, Any] = {
            "id": f"{id_at(at)}7{number:019x}",
            "started_at": at,
            "session": f"session-{number % 37}",
            "user": f"user-{number % 23}",
            "fingerprint": "fp-" + ("b" if number % 3 else "a") * 61,
            "first_ms": 90.0 + number % 40,
            "duration_ms": 420.0 + 7 * (number % 90),
            "upstream": "stand-in",
            "metadata": {"app": "triage"},
            "label": label,
            "holdout": number % 8 == 0,
            "cost_usd": 0.0021,
            "input_tokens": 180 + number % 30,
            "output_tokens": 34,
            "stream": number % 2 == 0,
            "preview": f"{text}\n{answer}",
            "score_wanted": 0,
        } | overrides
        given = {"request": request_of(text, SECOND_SYSTEM if number % 3 else SYSTEM), "answer": answer_of(answer)}
        row = exchange_row(text=text, **(given | values))
        with self.store.write() as connection:
            connection.execute(insert(exchanges), row["exchange"])
            connection.execute(insert(bodies), row["bodies"])
            words = full_text.words_of(row["exchange"]["preview"])
            full_text.add(connection, [full_text.Entry(values["id"], words, row["exchange"])])
        self.ids.append(values["id"])
        self.answers.append(answer)
        return str(values["id"])

    def _exchanges(self) -> None:
        for number in range(FIRST_KIND):
            age_s = (FIRST_KIND - number) * 1400.0
            late: dict[str, Any] = {}
            if number > 130 and number % 4 == 0:
                late = {"arm": "student", "assignment": "student", "served_model": "ft:smollm2", "cost_usd": 0.0}
                late |= {"first_ms": 60.0 + number % 20, "duration_ms": 170.0 + 2 * (number % 40)}
            if number == 150:
                late = {"arm": "fallback", "assignment": "student", "reason": "no content by the deadline"}
            if number == 140:
                late = {"status": 502, "complete": False, "cause": "upstream_broke_off"}
            self._exchange(number, self.now - age_s, **late)
        for number in range(3):
            away = {"upstream": "spare", "status": 503, "cause": "upstream_unreachable", "cost_usd": None}
            none = {"task": None, "metadata": {}, "fingerprint": None, "label": None}
            self._exchange(500 + number, self.now - 50.0 - number, **none, **away)

    def _unmatched(self) -> None:
        """Traffic of one kind that no rule takes, as discovery would find it."""
        loose: dict[str, Any] = {"task": None, "metadata": {"app": "chat"}, "label": None, "model": "gpt-4.1-mini"}
        for number in range(24):
            text = f"Translate invoice {number * 7919 % 10_000} into German"
            request = request_of(text, "You translate short business texts into German. Keep numbers as they are.")
            loose |= {"request": request | {"model": "gpt-4.1-mini"}, "fingerprint": "fp-" + "c" * 61}
            loose |= {"preview": f"{text}\nRechnung {number}", "answer": answer_of(f"Rechnung {number}")}
            self._exchange(600 + number, self.now - 9_000.0 * (number + 1), **loose)
        while discovery.digest(self.store, self.clock):
            pass

    def _hostile(self) -> str:
        parts = [
            {"type": "text", "text": HOSTILE},
            {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/pixel.png"}},
        ]
        request = {"model": "gpt-4.1", "messages": [{"role": "user", "content": parts}]}
        answer = answer_of(HOSTILE)
        late = {"preview": f"{HOSTILE}\n{HOSTILE}", "session": HOSTILE, "label": "bug"}
        made = self._exchange(400, self.now - 20.0, request=request, answer=answer, **late)
        self.answers[-1] = HOSTILE
        return made

    def _prompts(self) -> None:
        rows = [
            {
                "task": "triage",
                "fingerprint": "fp-" + letter * 61,
                "template": template,
                "first_seen": self.now - age * DAY_S,
                "last_seen": self.now - seen,
                "exchanges": number,
            }
            for letter, template, age, seen, number in (
                ("a", SYSTEM, 20, 4000, 60),
                ("b", SECOND_SYSTEM, 6, 30, 120),
            )
        ]
        with self.store.write() as connection:
            connection.execute(insert(prompt_versions), rows)

    def _said(self) -> None:
        named = []
        versions = graders_of(self.task).versions
        for number, identity in enumerate(self.ids[:170]):
            named.append(
                _score(identity, ("category", versions["category"]), 0.0 if number % 13 == 0 else 1.0, self.now)
            )
            named.append(_score(identity, ("summary", versions["summary"]), 0.6 + 0.4 * self.random.random(), self.now))
        with self.store.write() as connection:
            connection.execute(insert(scores), named)
        for identity in self.ids[:6]:
            given = feedback.Feedback(id=identity, kind="truth", value={"category": "billing"})
            feedback.record(self.store, given, None, self.clock, lambda _, value: value)
        for number in (0, 1, 2, *range(4, 40)):
            verdict: reviews.Verdict = "reject" if number % 13 == 2 or number == 13 else "accept"
            reviews.review(self.store, self.ids[number], verdict, None, "mara", self.clock)
        reviews.review(self.store, self.ids[3], "correct", '{"category": "bug"}', "mara", self.clock)

    def _datasets(self) -> str:
        made = ""
        for filters, hours in ((datasets.Filters(), 40.0), (datasets.Filters(minimum_score={"category": 0.5}), 24.9)):
            at = self.ago(hours)
            made = datasets.queue_build(self.store, "triage", filters, lambda at=at: at)  # type: ignore[misc]
            datasets.build(self.store, made, {"triage": self.task}, self.settings.upstreams, lambda at=at: at)  # type: ignore[misc]
        datasets.queue_build(self.store, "triage", datasets.Filters(), self.clock)
        return made

    def _fine_tune(self, dataset: str, **values: Any) -> str:
        row = {
            "task": "triage",
            "dataset_id": dataset,
            "base": "smollm2-135m-instruct",
            "trainer": "local",
            "settings": self.task.training.model_dump(mode="json"),
            "cancel_asked": False,
        } | values
        with self.store.write() as connection:
            connection.execute(insert(fine_tunes).values(row))
        return str(row["id"])

    def _events(self, fine_tune: str, began: float, losses: list[float]) -> None:
        rows = [_event(fine_tune, 0, began, "Training started.", {})]
        for step, loss in enumerate(losses, start=1):
            said = f"Step {step}: loss {loss:.3f}"
            rows.append(_event(fine_tune, step, began + STEP_S * step, said, {"step": step, "loss": loss}))
        with self.store.write() as connection:
            connection.execute(insert(fine_tune_events), rows)

    def _losses(self, steps: int) -> list[float]:
        return [2.4 / (1 + step / 9) + 0.08 + 0.05 * self.random.random() for step in range(1, steps + 1)]

    def _trained(self, dataset: str) -> tuple[str, str]:
        losses, began = self._losses(60), self.ago(24.5)
        ended = began + 60 * STEP_S
        progress = {"step": 60, "total_steps": 60, "loss": losses[-1], "tokens_per_s": 284.0}
        done = {"state": "succeeded", "progress": progress, "trained_tokens": round(284.0 * 60 * STEP_S)}
        times = {"created_at": began - 4, "started_at": began, "ended_at": ended}
        fine_tune = self._fine_tune(dataset, id="ftjob-done", **done, **times)
        self._events(fine_tune, began, losses)
        student = registry.register_local(
            self.store,
            registry.Training(
                fine_tune_id=fine_tune,
                task="triage",
                base="smollm2-135m-instruct",
                dataset_id=dataset,
                folder="students/st_1",
                weights_hash="5f1c" * 16,
                view=self.task.view,
                fingerprints=["fp-" + "a" * 61],
                tools=False,
            ),
            lambda: ended,
        )
        server = {"state": "ready", "url": "http://127.0.0.1:9600/v1", "capacity_per_s": 5.4, "pid": 1}
        with self.store.write() as connection:
            connection.execute(update(fine_tunes).where(fine_tunes.c.id == fine_tune).values(student_id=student.id))
            seen = {"student_id": student.id, "wanted_at": self.ago(24), "seen_at": self.now - 2}
            connection.execute(insert(student_servers).values(**seen, **server))
        registry.ensure_base(self.store, "triage", student.base, self.task.view, self.clock)
        return fine_tune, student.id

    def _training(self, dataset: str) -> str:
        losses, began = self._losses(21), self.now - 21 * STEP_S
        left = round((90 - 21) * STEP_S)
        progress = {
            "step": 21,
            "total_steps": 90,
            "loss": losses[-1],
            "tokens_per_s": 284.0,
            "seconds_left": left,
        }
        times = {"created_at": began - 4, "started_at": began}
        fine_tune = self._fine_tune(dataset, id="ftjob-running", state="running", progress=progress, **times)
        self._events(fine_tune, began, losses)
        return fine_tune

    def _evaluation(self, dataset: str, student: str) -> str:
        found = registry.load_student(self.store, student)
        taught = [self._said_of(number, 0.08) for number in range(ROWS)]
        arms = [
            self._arm("teacher", "gpt-4.1", "teacher", taught, taught),
            self._arm(student, found.name, "student", [self._said_of(n, 0.1) for n in range(ROWS)], taught),
            self._arm(
                "st_base",
                "base:smollm2-135m-instruct:triage",
                "base",
                [self._said_of(n, 0.85) for n in range(ROWS)],
                taught,
            ),
        ]
        made = report.Report(
            dataset_id=dataset,
            dataset_hash="ab" * 32,
            rows=ROWS,
            rows_with_truth=ROWS,
            graders={"category": "truth", "summary": "teacher"},
            arms=arms,
            looks=2,
            notes=["The teacher was not asked twice (no worker key), so its agreement with itself is unknown."],
        )
        row = {
            "id": "ev_done",
            "task": "triage",
            "dataset_id": dataset,
            "students": [student],
            "state": "succeeded",
            "progress": {"done": 240, "total": 240},
            "report": msgspec.to_builtins(made),
            "created_at": self.ago(23.5),
            "ended_at": self.ago(23.4),
        }
        moving = row | {"id": "ev_running", "state": "running", "report": {}, "ended_at": None}
        moving |= {"progress": {"done": 31, "total": 240}, "created_at": self.now - 60}
        with self.store.write() as connection:
            connection.execute(insert(evaluations), [row, moving])
        return "ev_done"

    def _said_of(self, number: int, wrong: float) -> str:
        """What somebody who is wrong so often says of a row of the holdout."""
        missed = self.random.random() < wrong
        return LABELS[self.random.randrange(len(LABELS))] if missed else LABELS[number % len(LABELS)]

    def _arm(self, identity: str, name: str, role: report.Role, answers: list[str], taught: list[str]) -> report.Arm:
        """The teacher was asked once: it has no score for its agreement with itself."""
        answered = []
        for number, (said, teacher) in enumerate(zip(answers, taught, strict=True)):
            label, own = LABELS[number % len(LABELS)], role == "teacher"
            right = float(said == label)
            summary = {} if own else {"summary": 0.5 + 0.5 * self.random.random()}
            answered.append(
                report.Answered(
                    exchange_id=self.ids[number],
                    conversation=f"c{number % 60}",
                    slices={"language": "de" if label in ("shipping", "refund") else "en", "label": label},
                    scores={"category": right, **summary},
                    differences={} if own else {"category": right - float(teacher == label)},
                    duration_ms=640.0 if own else 180.0,
                    cost_usd=0.0021 if own else 0.0,
                    output=f'{{"category": "{said}"}}' if number != 7 else HOSTILE,
                    teacher=f'{{"category": "{teacher}"}}',
                    reference=f'{{"category": "{label}"}}',
                    label=said,
                    true_label=label,
                )
            )
        return report.summarise(identity, name, role, answered)

    def _start(self, student: str, age_s: float) -> rollouts.Rollout:
        asked = rollout_start.Start("triage", student, "mara")
        rollout = rollout_start.start(self.store, asked, self.task, lambda: self.now - age_s)
        with self.store.write() as connection:
            said = update(verdicts).where(verdicts.c.rollout_id == rollout.id)
            connection.execute(said.values(id=_verdict_id(rollout.id, 0, self.now - age_s)))
        return rollout

    def _rolled_back(self, student: str) -> str:
        rollout = self._start(student, 20 * HOUR_S)
        self._walk(rollout, wrong=0.3, pairs_a_stage=70, stages=3, began=20 * HOUR_S)
        return rollout.id

    def _rollout(self, student: str) -> str:
        rollout = self._start(student, 4 * 3600.0)
        self._walk(rollout, wrong=0.05, pairs_a_stage=130, stages=3, began=4 * 3600.0)
        return rollout.id

    def _walk(self, rollout: rollouts.Rollout, *, wrong: float, pairs_a_stage: int, stages: int, began: float) -> None:
        """Plays pairs through the real tests and writes what the controller would write."""
        standing = standing_of(policy_of(rollout.policy, rollout.policy.gates), rollout.evidence)
        at, stage, rows, said = self.now - began, 0, [], []
        state, entered = "running", 0
        for number in range(pairs_a_stage * stages):
            at += began / (pairs_a_stage * stages + 1)
            row = self._pair(rollout.id, number, stage, at, wrong)
            rows.append(row)
            standing.add_pair(Pair(row["session"], row["differences"], row["slices"]))
            standing.add_marks(Mark.STUDENT_GOOD if number % 9 else Mark.FALLBACK_GOOD, at)
            standing.add_marks(Mark.TEACHER_GOOD, at)
            if (number + 1) % 10:
                continue
            verdict = decide(standing.tally.policy, stage, standing.evidence(1.0, 5.4))
            news = not said or (said[-1]["kind"], said[-1]["reason"]) != (verdict.kind, verdict.reason)
            if news:
                said.append(_verdict(rollout.id, number, at, verdict))
            if verdict.kind == "roll_back":
                state = "rolled_back"
                break
            if stage == stages and number - entered >= UNDER_WAY:
                break
            if verdict.kind == "advance":
                stage, entered = verdict.stage, number
                standing.enter(stage)
        self._keep(rollout, (standing, stage, state, at), rows, said)

    def _keep(self, rollout: rollouts.Rollout, stand: Any, rows: list[dict[str, Any]], said: list[Any]) -> None:
        standing, stage, state, at = stand
        over = state == "rolled_back"
        values = {
            "evidence": standing.to_state(),
            "stage": stage,
            "state": state,
            "share": 0.0 if over else standing.tally.policy.shares[stage],
            "stage_at": at - 1800.0,
            "ended_at": at if over else None,
            "reason": said[-1]["reason"],
        }
        with self.store.write() as connection:
            connection.execute(insert(pairs), rows)
            connection.execute(insert(verdicts), said)
            connection.execute(update(rollout_table).where(rollout_table.c.id == rollout.id).values(values))

    def _pair(self, rollout: str, number: int, stage: int, at: float, wrong: float) -> dict[str, Any]:
        label = LABELS[number % len(LABELS)]
        student, teacher = float(self.random.random() > wrong), float(self.random.random() > 0.08)
        if number == OF_MARKUP:
            student = teacher = 1.0
        other = "bug" if label != "bug" else "billing"
        of = number % FIRST_KIND if number != OF_MARKUP else self.ids.index(self.hostile)
        taught = self.answers[of]
        said = taught if student == teacher else taught.replace(f'"{label}"', f'"{other}"')
        return {
            "id": f"{rollout}-{number:06d}",
            "rollout_id": rollout,
            "exchange_id": self.ids[of],
            "session": f"s{number}",
            "day": "2026-11-24",
            "slices": {"language": "de" if label in ("shipping", "refund") else "en"},
            "stage": stage,
            "probability": 1.0,
            "teacher_output": taught,
            "student_output": said.replace('"summary":"', '"summary":"Customer: ').replace("**bold**", "*slanted*"),
            "differences": {"category": student - teacher, "summary": self.random.uniform(-0.1, 0.08)},
            "student_scores": {"category": student},
            "teacher_scores": {"category": teacher},
            "state": "consumed",
            "served": number % 4 == 0,
            "created_at": at,
        }

    def _turns(self, *made: str) -> None:
        """One that came to its rollout, and one that waits for a person before it trains."""
        loop = LoopSettings(after_rows=100, wait_for_person=("train",))
        columns = dict(
            zip(("dataset_id", "fine_tune_id", "student_id", "evaluation_id", "rollout_id"), made, strict=True)
        )
        first = turns.begin(
            self.store, "triage", loop, turns.Fresh(0.0, self.now - 9e4, 131), (turns.LOOP, lambda: self.now - 9e4)
        )
        turns.go_on(self.store, first, columns, "built triage@2 and trained on it", lambda: self.now - 8e4)
        turns.end(
            self.store,
            turns.load_turn(self.store, first.id),
            "rolled_out",
            "its rollout has started",
            lambda: self.now - 7e4,
        )
        second = turns.begin(
            self.store, "triage", loop, turns.Fresh(self.now - 9e4, self.now, 104), (turns.LOOP, self.clock)
        )
        waits = {"state": "waiting", "step": "train", "dataset_id": made[0]}
        turns.go_on(self.store, second, waits, "waits for a person before it trains", self.clock)

    def _paid(self) -> None:
        """What the background calls of the last rollout cost."""
        calls = [
            {
                "id": f"sp{n:03d}",
                "at": self.ago(3.5) + 60 * n,
                "task": "triage",
                "purpose": "pairing",
                "upstream": "stand-in",
            }
            for n in range(20)
        ]
        price = {"model": "gpt-4.1", "input_tokens": 190, "output_tokens": 34, "cost_usd": 0.00009}
        with self.store.write() as connection:
            connection.execute(insert(spend), [{**call, **price} for call in calls])

    def _operations(self) -> None:
        for task, named in (("triage", {"stored": 181, "sampled_out": 6, "seen": 190, "dropped:spool_full": 3}),):
            rows = [{"task": task, "name": name, "value": value} for name, value in named.items()]
            with self.store.write() as connection:
                connection.execute(insert(counters), rows)
        keys.create(self.store, self.settings.data, "support app", ["triage"], None, self.clock)
        _, retired = keys.create(self.store, self.settings.data, "old importer", (), None, self.clock)
        keys.revoke(self.store, retired.id, self.clock)
        lease = {"name": "rollouts", "holder": "worker-1", "token": 1, "expires_at": self.now + 10}
        done = [
            {"id": f"au{n:03d}", "at": self.now - 60 * (120 - n), "who": "mara", **DONE[n % len(DONE)]}
            for n in range(120)
        ]
        erased = {"exchange_id": "gone", "task": "triage", "who": "mara", "erased_at": self.now}
        with self.store.write() as connection:
            connection.execute(insert(leases).values(**lease, ticked_at=self.now - 1))
            connection.execute(insert(audit), done)
            connection.execute(insert(tombstones).values(erased))


def _score(identity: str, of: tuple[str, str], value: float, at: float) -> dict[str, Any]:
    return {
        "exchange_id": identity,
        "grader": of[0],
        "version": of[1],
        "input_hash": "h",
        "value": value,
        "scored_at": at,
    }


def _event(fine_tune: str, number: int, at: float, message: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{fine_tune}-{number:06d}",
        "fine_tune_id": fine_tune,
        "at": at,
        "level": "info",
        "message": message,
        "data": data,
    }


def _verdict_id(rollout: str, number: int, at: float) -> str:
    """By its time, as ids are, so that what a test does comes after it."""
    return f"{id_at(at)}7{number:011x}{rollout[-8:]}"


def _verdict(rollout: str, number: int, at: float, verdict: Any) -> dict[str, Any]:
    return {
        "id": _verdict_id(rollout, number, at),
        "rollout_id": rollout,
        "at": at,
        "kind": verdict.kind,
        "stage": verdict.stage,
        "share": verdict.share,
        "reason": verdict.reason,
        "sentence": verdict.sentence,
        "numbers": verdict.numbers,
        "who": "controller",
    }
