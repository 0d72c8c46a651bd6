"""This room's tables. Times are Unix seconds, durations milliseconds, costs US dollars (null: unknown)."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from capture import full_text
from capture.db import metadata

Json = JSON().with_variant(JSONB(), "postgresql")

exchanges = Table(
    "exchanges",
    metadata,
    Column("id", String, primary_key=True),  # UUIDv7: sorting by id is sorting by time
    Column("started_at", Double, nullable=False),
    Column("route", String, nullable=False),
    Column("task", String),
    Column("key_id", String),
    Column("session", String),
    Column("user", String),
    Column("fingerprint", String),  # prompt version
    Column("rollout", String),
    Column("student", String),
    Column("assignment", String),
    Column("arm", String, nullable=False),
    Column("reason", String),
    Column("upstream", String, nullable=False),
    Column("model", String, nullable=False),
    Column("served_model", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("stored", Boolean, nullable=False),  # the client asked for a stored completion
    Column("complete", Boolean, nullable=False),
    Column("cause", String),
    Column("first_ms", Double),
    Column("duration_ms", Double, nullable=False),
    Column("completion_id", String),
    Column("finish_reason", String),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("tokens_estimated", Boolean, nullable=False),
    Column("cost_usd", Double),
    Column("metadata", Json, nullable=False),
    Column("probability", Double, nullable=False),  # with which it was sampled
    Column("holdout", Boolean, nullable=False),
    Column("conversation", String, nullable=False),  # hash that the holdout and clusters go by
    Column("content_hash", String, nullable=False),  # of the normalised variable part of the prompt
    Column("label", String),
    Column("redactions", Integer, nullable=False),
    Column("preview", Text, nullable=False),  # the last user message and the answer, cut to 200 characters each
    Column("score_wanted", Integer, nullable=False, default=1),  # raised by whatever calls for scoring; 0: scored
    Index("exchanges_task_id", "task", "id"),
    Index("exchanges_task_arm_id", "task", "arm", "id", "cost_usd"),  # covers the volumes and spend of all tasks
    Index("exchanges_completion", "completion_id"),
    Index("exchanges_session", "session"),
    Index("exchanges_user", "user"),
    Index("exchanges_unscored", "id", sqlite_where=text("score_wanted > 0"), postgresql_where=text("score_wanted > 0")),
)

event.listen(exchanges, "after_create", lambda _table, connection, **_: full_text.create(connection))
event.listen(exchanges, "before_drop", lambda _table, connection, **_: full_text.drop(connection))

tombstones = Table(
    "tombstones",
    metadata,
    Column("exchange_id", String, primary_key=True),  # erased: its bodies, scores, feedback and dataset rows are gone
    Column("task", String),
    Column("who", String, nullable=False),
    Column("erased_at", Double, nullable=False),
)

outlived = Table(  # removed by age or size, while a dataset still has a row of it: erasure must find that row
    "outlived",
    metadata,
    Column("exchange_id", String, primary_key=True),
    Column("task", String),
    Column("user", String),
    Column("removed_at", Double, nullable=False),
    Index("outlived_user", "user"),
)

sampled = Table(  # how many exchanges a key or user has had on a day, for the caps of sampling
    "sampled",
    metadata,
    Column("day", Integer, primary_key=True),  # since 1970, UTC
    Column("owner", String, primary_key=True),  # hash of task and key or user
    Column("seen", Integer, nullable=False),
)

bodies = Table(
    "bodies",
    metadata,
    Column("exchange_id", String, ForeignKey("exchanges.id", ondelete="CASCADE"), primary_key=True),
    Column("request", LargeBinary, nullable=False),  # zlib over the redacted request's JSON
    Column("answer", LargeBinary, nullable=False),  # zlib over the redacted answer: see capture/bodies.py
)

scores = Table(
    "scores",
    metadata,
    Column("exchange_id", String, ForeignKey("exchanges.id", ondelete="CASCADE"), primary_key=True),
    Column("grader", String, primary_key=True),
    Column("version", String, nullable=False),  # hash of the grader's settings
    Column("input_hash", String, nullable=False),
    Column("value", Double, nullable=False),
    Column("scored_at", Double, nullable=False),
)

graded = Table(  # what each task was last graded by: when that changes, its exchanges are scored anew
    "graded",
    metadata,
    Column("task", String, primary_key=True),
    Column("graders", String, nullable=False),  # hash of their versions
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", String, primary_key=True),
    Column("exchange_id", String, nullable=False),  # no foreign key: feedback may come before the exchange is shipped
    Column("completion_id", String),
    Column("key_id", String),
    Column("kind", String, nullable=False),  # truth, score, comment, correction
    Column("name", String, nullable=False),
    Column("value", Json, nullable=False),
    Column("idempotency_key", String, nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("settled", Boolean, nullable=False, default=False),  # its exchange was marked for scoring, if it was there
    Index("feedback_exchange", "exchange_id"),
    Index("feedback_created", "created_at"),
    Index("feedback_unsettled", "id", sqlite_where=text("settled = 0"), postgresql_where=text("NOT settled")),
)

reviews = Table(
    "reviews",
    metadata,
    Column("id", String, primary_key=True),
    Column("exchange_id", String, ForeignKey("exchanges.id", ondelete="CASCADE"), nullable=False),
    Column("verdict", String, nullable=False),  # accept, reject, correct
    Column("output", Text),  # the corrected output
    Column("reviewer", String, nullable=False),
    Column("reviewed_at", Double, nullable=False),
    Index("reviews_exchange", "exchange_id", "reviewed_at"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("name", String, primary_key=True),
    Column("settings", Json, nullable=False),  # capture.settings.TaskSettings
    Column("source", String, nullable=False),  # file (read-only in the console) or console
    Column("updated_at", Double, nullable=False),
)

prompt_versions = Table(
    "prompt_versions",
    metadata,
    Column("task", String, primary_key=True),
    Column("fingerprint", String, primary_key=True),
    Column("template", Text, nullable=False),  # the redacted system prompt it was first seen with
    Column("first_seen", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("exchanges", Integer, nullable=False),
)

candidates = Table(  # tasks that nobody has named yet: see capture/discovery.py
    "candidates",
    metadata,
    Column("id", String, primary_key=True),
    Column("bucket", String, nullable=False),  # hash of tools and schema
    Column("core", Json, nullable=False),  # features of the template: see capture/templates.py
    Column("words", Integer, nullable=False),  # that the template fixes
    Column("template", Text, nullable=False),  # its fixed words; … for each filling
    Column("system", Boolean, nullable=False),  # there is a system prompt
    Column("tools", Json, nullable=False),  # names
    Column("schema_name", String),
    Column("exchanges", Integer, nullable=False),
    Column("priced", Integer, nullable=False),  # how many of them have a known cost
    Column("cost_usd", Double, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("models", Json, nullable=False),  # {name: exchanges}
    Column("upstreams", Json, nullable=False),
    Column("fingerprints", Json, nullable=False),  # a bounded number of them
    Column("metadata", Json, nullable=False),  # what all of them say
    Column("examples", Json, nullable=False),  # ids of exchanges
    Column("first_seen", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
)

discovery = Table(
    "discovery",
    metadata,
    Column("name", String, primary_key=True),
    Column("after", String, nullable=False),  # the last unmatched exchange that was looked at
    Column("waiting", Json, nullable=False),  # ids of those that no template was found for yet, bounded
)

judgements = Table(  # what judges said: the same question is paid for once
    "judgements",
    metadata,
    Column("version", String, primary_key=True),  # of the grader
    Column("input_hash", String, primary_key=True),  # of what it was shown
    Column("value", Double, nullable=False),
    Column("judged_at", Double, nullable=False),
)

judging = Table(  # exchanges that wait for their task's judges
    "judging",
    metadata,
    Column("exchange_id", String, ForeignKey("exchanges.id", ondelete="CASCADE"), primary_key=True),
    Column("task", String, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("obstacle", Text),  # why it was not judged when last tried
    Index("judging_next", "not_before"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", String, primary_key=True),
    Column("task", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),  # queued, building, ready, failed
    Column("filters", Json, nullable=False),
    Column("hash", String),  # sha256 over the rows, in order
    Column("card", Json, nullable=False),  # counts, drops by reason, tokens, class balance, provenance
    Column("error", Text),
    Column("created_at", Double, nullable=False),
    Column("ready_at", Double),
    UniqueConstraint("task", "version"),
)

dataset_rows = Table(
    "dataset_rows",
    metadata,
    Column("dataset_id", String, ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("split", String, nullable=False),  # train or holdout
    Column("exchange_id", String, nullable=False),
    Column("row", LargeBinary, nullable=False),  # canonical JSON: capture.datasets.Row
    Index("dataset_rows_exchange", "exchange_id"),
)

segments = Table(
    "segments",
    metadata,
    Column("name", String, primary_key=True),  # spool folder and segment
    Column("offset", BigInteger, nullable=False),  # bytes of it that are in the store, written with the rows themselves
    Column("done", Boolean, nullable=False),
    Column("shipped_at", Double, nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("task", String, primary_key=True),
    Column("name", String, primary_key=True),  # stored, sampled_out, opted_out, dropped:CAUSE, erased, expired, …
    Column("value", BigInteger, nullable=False),
)

spool_ledger = Table(  # what was read of each spool folder, written with the rows themselves
    "spool_ledger",
    metadata,
    Column("folder", String, primary_key=True),
    Column("task", String, primary_key=True),
    Column(
        "name", String, primary_key=True
    ),  # read (records), damaged (stretches), folded (1: its page is in counters)
    Column("value", BigInteger, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("prefix", String, nullable=False),
    Column("digest", String, nullable=False, unique=True),  # HMAC-SHA256
    Column("tasks", Json, nullable=False),  # names it may use; empty: all
    Column("limits", Json, nullable=False, default=dict),  # capture.keys.KeyLimits
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)

audit = Table(
    "audit",
    metadata,
    Column("id", String, primary_key=True),
    Column("at", Double, nullable=False),
    Column("who", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", Json, nullable=False),
)
