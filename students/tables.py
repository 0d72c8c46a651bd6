"""This room's tables. Times are Unix seconds, durations milliseconds, costs US dollars (null: unknown)."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from capture.db import metadata
from capture.tables import Json

MOVING = text("state IN ('running', 'paused')")
"""One rollout of a task at a time: an incumbent at full is none."""

UNENDED = text("ended_at IS NULL")
"""One turn of a task's loop at a time."""

fine_tunes = Table(
    "fine_tunes",
    metadata,
    Column("id", String, primary_key=True),
    Column("task", String, nullable=False),  # "" for a job of the API that named none
    Column("dataset_id", String, ForeignKey("datasets.id")),  # null: trained on a client's file
    Column("base", String, nullable=False),
    Column("trainer", String, nullable=False),  # local, or an upstream's name
    Column("settings", Json, nullable=False),  # capture.settings.TrainingSettings
    Column("state", String, nullable=False),  # queued, running, succeeded, failed, cancelled
    Column("cancel_asked", Boolean, nullable=False),
    Column("progress", Json, nullable=False),  # the last students.training.Progress
    Column("error", Text),
    Column("student_id", String),
    Column("erased", Integer, nullable=False, default=0),  # rows that it may have learnt from, erased since
    Column("trained_tokens", Integer),
    Column("cost_usd", Double),
    Column("key_id", String),  # whose job it is, where it came by /v1/fine_tuning/jobs
    Column("asked", Json),  # students.jobs.Asked: what that client asked for; null: it did not come that way
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
)

files = Table(  # of purpose fine-tune, as /v1/files took them; the bytes lie in the data folder
    "files",
    metadata,
    Column("id", String, primary_key=True),
    Column("key_id", String),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
)

hosted_runs = Table(  # what trainings at upstreams must not forget: see students/training/hosted.py
    "hosted_runs",
    metadata,
    Column("run", String, primary_key=True),  # the fine-tune's id
    Column("upstream", String, nullable=False),
    Column("plan", Json, nullable=False),  # students.training.TrainingPlan
    Column("sha256", String),  # of the rows
    Column("file_id", String),  # the upload's, at the upstream
    Column("asked_at", Double),  # since when a job may exist
    Column("job_id", String),
    Column("last_event", String),  # of the job, that was passed on
    Column("cancel_asked", Boolean, nullable=False),
    Column("result", Json),  # students.training.Artefact
    Index("hosted_runs_file", "upstream", "sha256"),
)

fine_tune_events = Table(
    "fine_tune_events",
    metadata,
    Column("id", String, primary_key=True),
    Column("fine_tune_id", String, ForeignKey("fine_tunes.id", ondelete="CASCADE"), nullable=False),
    Column("at", Double, nullable=False),
    Column("level", String, nullable=False),  # info, warn, error
    Column("message", Text, nullable=False),
    Column("data", Json, nullable=False),
    Index("fine_tune_events_of", "fine_tune_id", "id"),
)

students = Table(
    "students",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),  # the model name it answers under
    Column("task", String, nullable=False),
    Column("kind", String, nullable=False),  # local, base (untuned, to compare), registered (at an upstream)
    Column("base", String, nullable=False),
    Column("fine_tune_id", String),
    Column("dataset_id", String),
    Column("folder", String),  # local: the model's folder, relative to the data folder
    Column("weights_hash", String),
    Column("upstream", String),  # registered: an upstream of the file
    Column("upstream_model", String),
    Column("view", Json, nullable=False),  # capture.settings.ViewSettings it was trained with
    Column("fingerprints", Json, nullable=False),  # prompt versions among its training rows
    Column("tools", Boolean, nullable=False),
    Column("key_id", String),  # the gateway key that alone may call it; null: all may
    Column("erased", Integer, nullable=False, default=0),  # rows that it learnt from, erased since
    Column("created_at", Double, nullable=False),
)

student_servers = Table(
    "student_servers",
    metadata,
    Column("student_id", String, ForeignKey("students.id", ondelete="CASCADE"), primary_key=True),
    Column("wanted_at", Double),  # somebody asked for it to be served until told otherwise
    Column("state", String, nullable=False),  # starting, ready, dead, stopped
    Column("url", String),  # http://127.0.0.1:PORT/v1
    Column("served_model", String),  # what its `model` field must say
    Column("pid", Integer),
    Column("capacity_per_s", Double),  # measured answers per second
    Column("detail", Text),
    Column("seen_at", Double, nullable=False),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", String, primary_key=True),
    Column("task", String, nullable=False),
    Column("dataset_id", String, ForeignKey("datasets.id")),  # null: captured traffic is replayed
    Column("students", Json, nullable=False),  # ids
    Column("asked", Json, nullable=False, default=dict),  # students.asking.Asked: what is examined beside them, and how
    Column("state", String, nullable=False),  # queued, running, succeeded, failed
    Column("progress", Json, nullable=False),  # {"done": n, "total": n}
    Column("report", Json, nullable=False),  # students.evaluation.Report
    Column("error", Text),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
)

evaluation_answers = Table(
    "evaluation_answers",
    metadata,
    Column("dataset_id", String, primary_key=True),  # or replay:TASK
    Column("exchange_id", String, primary_key=True),
    Column("student_id", String, primary_key=True),  # or another key of who answered, and how
    Column("output", Text, nullable=False),
    Column("error", Text),
    Column("duration_ms", Double, nullable=False),
    Column("cost_usd", Double),
    Column("scores", Json, nullable=False),
)

loop_turns = Table(
    "loop_turns",
    metadata,
    Column("id", String, primary_key=True),
    Column("task", String, nullable=False),
    Column("state", String, nullable=False),  # running, waiting (for a person), rolled_out, ended, failed, stopped
    Column("step", String, nullable=False),  # build, train, evaluate, rollout: what is under way, or waited before
    Column("approved", Json, nullable=False),  # steps that a person let it enter
    Column("settings", Json, nullable=False),  # capture.settings.LoopSettings, frozen at the start
    Column("since", Double, nullable=False),  # rows captured after this and until `until` were the new ones
    Column("until", Double, nullable=False),
    Column("rows", Integer, nullable=False),  # how many of them were accepted
    Column("dataset_id", String),
    Column("fine_tune_id", String),
    Column("student_id", String),
    Column("incumbent_id", String),  # the student at full when this one was evaluated
    Column("evaluation_id", String),
    Column("rollout_id", String),
    Column("record", Json, nullable=False),  # [{"at", "who", "text"}], oldest first
    Column("outcome", Text),
    Column("who", String, nullable=False),  # loop, or a person
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    Index("loop_turns_task", "task", "created_at"),
    Index("loop_turns_one", "task", unique=True, sqlite_where=UNENDED, postgresql_where=UNENDED),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String, primary_key=True),
    Column("task", String, nullable=False),
    Column("student_id", String, ForeignKey("students.id"), nullable=False),
    Column("state", String, nullable=False),  # running, paused, full, rolled_back, aborted, superseded
    Column("stage", Integer, nullable=False),  # 0 is shadow
    Column("share", Double, nullable=False),  # what gateways route by; 0 in every state but running, paused and full
    Column("policy", Json, nullable=False),  # capture.settings.RolloutSettings, frozen at the start
    Column("evidence", Json, nullable=False),  # students.evidence states, by grader and slice
    Column("fence", Integer, nullable=False),  # the lease's token at the last write
    Column("reason", Text),
    Column("dry_run", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("stage_at", Double, nullable=False),
    Column("ended_at", Double),
    Index("rollouts_task", "task", "created_at"),
    Index("rollouts_one_moving", "task", unique=True, sqlite_where=MOVING, postgresql_where=MOVING),
)

observations = Table(
    "observations",
    metadata,
    Column("id", String, primary_key=True),
    Column("rollout_id", String, ForeignKey("rollouts.id", ondelete="CASCADE"), nullable=False),
    Column("marks", Text, nullable=False),  # one letter an exchange, in order: students.observing.Mark
    Column("measures", Json, nullable=False),  # one an exchange, in the same order: students.observing.Measure
    Index("observations_rollout", "rollout_id", "id"),
)

pairs = Table(
    "pairs",
    metadata,
    Column("id", String, primary_key=True),
    Column("rollout_id", String, ForeignKey("rollouts.id", ondelete="CASCADE"), nullable=False),
    Column("exchange_id", String, nullable=False),
    Column("session", String, nullable=False),
    Column("day", String, nullable=False),
    Column("slices", Json, nullable=False),  # {"language": "de", …}
    Column("stage", Integer, nullable=False),
    Column("probability", Double, nullable=False),
    Column("teacher_output", Text, nullable=False),
    Column("teacher_second", Text),  # asked twice, where there is no truth
    Column("student_output", Text),
    Column("student_error", Text),
    Column("differences", Json, nullable=False),  # grader -> difference; empty until it can be scored
    Column("student_scores", Json, nullable=False),
    Column("teacher_scores", Json, nullable=False),
    Column("state", String, nullable=False),  # judging, waiting (for truth), scored, consumed, void
    Column("served", Boolean, nullable=False),  # the student's answer is what the client got
    Column("created_at", Double, nullable=False),
    UniqueConstraint("rollout_id", "session", "day"),  # pairs of one conversation are not independent
    Index("pairs_state", "rollout_id", "state"),
    Index("pairs_exchange", "exchange_id"),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", String, primary_key=True),
    Column("rollout_id", String, ForeignKey("rollouts.id", ondelete="CASCADE"), nullable=False),
    Column("at", Double, nullable=False),
    Column("kind", String, nullable=False),  # advance, hold, roll_back; or what a person did: pause, resume, …
    Column("stage", Integer, nullable=False),
    Column("share", Double, nullable=False),  # after it
    Column("reason", String, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("numbers", Json, nullable=False),
    Column("who", String, nullable=False),  # controller, or a person
    Index("verdicts_rollout", "rollout_id", "id"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("token", Integer, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("ticked_at", Double, nullable=False),  # the controller's last tick: the age of routing snapshots
)

spend = Table(
    "spend",
    metadata,
    Column("id", String, primary_key=True),
    Column("at", Double, nullable=False),
    Column("task", String, nullable=False),
    Column("purpose", String, nullable=False),  # shadow, pairing, judge, training, evaluation, relabelling
    Column("upstream", String, nullable=False),
    Column("model", String, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cost_usd", Double),
    Index("spend_task", "task", "at"),
)
