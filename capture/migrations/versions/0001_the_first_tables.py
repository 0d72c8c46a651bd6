"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

JSON_ = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", JSON_, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "candidates",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("core", JSON_, nullable=False),
        sa.Column("words", sa.Integer(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("system", sa.Boolean(), nullable=False),
        sa.Column("tools", JSON_, nullable=False),
        sa.Column("schema_name", sa.String(), nullable=True),
        sa.Column("exchanges", sa.Integer(), nullable=False),
        sa.Column("priced", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("models", JSON_, nullable=False),
        sa.Column("upstreams", JSON_, nullable=False),
        sa.Column("fingerprints", JSON_, nullable=False),
        sa.Column("metadata", JSON_, nullable=False),
        sa.Column("examples", JSON_, nullable=False),
        sa.Column("first_seen", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "counters",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task", "name"),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("filters", JSON_, nullable=False),
        sa.Column("hash", sa.String(), nullable=True),
        sa.Column("card", JSON_, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task", "version"),
    )
    op.create_table(
        "discovery",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("after", sa.String(), nullable=False),
        sa.Column("waiting", JSON_, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "evaluation_answers",
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("exchange_id", sa.String(), nullable=False),
        sa.Column("student_id", sa.String(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("scores", JSON_, nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "exchange_id", "student_id"),
    )
    op.create_table(
        "exchanges",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=True),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("session", sa.String(), nullable=True),
        sa.Column("user", sa.String(), nullable=True),
        sa.Column("fingerprint", sa.String(), nullable=True),
        sa.Column("rollout", sa.String(), nullable=True),
        sa.Column("student", sa.String(), nullable=True),
        sa.Column("assignment", sa.String(), nullable=True),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("upstream", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("served_model", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("stored", sa.Boolean(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("first_ms", sa.Double(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("completion_id", sa.String(), nullable=True),
        sa.Column("finish_reason", sa.String(), nullable=True),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("tokens_estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("metadata", JSON_, nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("holdout", sa.Boolean(), nullable=False),
        sa.Column("conversation", sa.String(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("redactions", sa.Integer(), nullable=False),
        sa.Column("preview", sa.Text(), nullable=False),
        sa.Column("score_wanted", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("exchanges", schema=None) as batch_op:
        batch_op.create_index("exchanges_completion", ["completion_id"], unique=False)
        batch_op.create_index("exchanges_session", ["session"], unique=False)
        batch_op.create_index("exchanges_task_arm_id", ["task", "arm", "id", "cost_usd"], unique=False)
        batch_op.create_index("exchanges_task_id", ["task", "id"], unique=False)
        batch_op.create_index(
            "exchanges_unscored",
            ["id"],
            unique=False,
            sqlite_where=sa.text("score_wanted > 0"),
            postgresql_where=sa.text("score_wanted > 0"),
        )
        batch_op.create_index("exchanges_user", ["user"], unique=False)

    op.create_table(
        "feedback",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("exchange_id", sa.String(), nullable=False),
        sa.Column("completion_id", sa.String(), nullable=True),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", JSON_, nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("idempotency_key"),
    )
    with op.batch_alter_table("feedback", schema=None) as batch_op:
        batch_op.create_index("feedback_created", ["created_at"], unique=False)
        batch_op.create_index("feedback_exchange", ["exchange_id"], unique=False)
        batch_op.create_index(
            "feedback_unsettled",
            ["id"],
            unique=False,
            sqlite_where=sa.text("settled = 0"),
            postgresql_where=sa.text("NOT settled"),
        )

    op.create_table(
        "files",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "graded",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("graders", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task"),
    )
    op.create_table(
        "hosted_runs",
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("upstream", sa.String(), nullable=False),
        sa.Column("plan", JSON_, nullable=False),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("file_id", sa.String(), nullable=True),
        sa.Column("asked_at", sa.Double(), nullable=True),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("last_event", sa.String(), nullable=True),
        sa.Column("cancel_asked", sa.Boolean(), nullable=False),
        sa.Column("result", JSON_, nullable=True),
        sa.PrimaryKeyConstraint("run"),
    )
    with op.batch_alter_table("hosted_runs", schema=None) as batch_op:
        batch_op.create_index("hosted_runs_file", ["upstream", "sha256"], unique=False)

    op.create_table(
        "judgements",
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("input_hash", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("judged_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("version", "input_hash"),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("tasks", JSON_, nullable=False),
        sa.Column("limits", JSON_, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("ticked_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "loop_turns",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("approved", JSON_, nullable=False),
        sa.Column("settings", JSON_, nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=True),
        sa.Column("fine_tune_id", sa.String(), nullable=True),
        sa.Column("student_id", sa.String(), nullable=True),
        sa.Column("incumbent_id", sa.String(), nullable=True),
        sa.Column("evaluation_id", sa.String(), nullable=True),
        sa.Column("rollout_id", sa.String(), nullable=True),
        sa.Column("record", JSON_, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("loop_turns", schema=None) as batch_op:
        batch_op.create_index(
            "loop_turns_one",
            ["task"],
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.create_index("loop_turns_task", ["task", "created_at"], unique=False)

    op.create_table(
        "outlived",
        sa.Column("exchange_id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=True),
        sa.Column("user", sa.String(), nullable=True),
        sa.Column("removed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("exchange_id"),
    )
    with op.batch_alter_table("outlived", schema=None) as batch_op:
        batch_op.create_index("outlived_user", ["user"], unique=False)

    op.create_table(
        "prompt_versions",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.Column("exchanges", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("task", "fingerprint"),
    )
    op.create_table(
        "sampled",
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day", "owner"),
    )
    op.create_table(
        "segments",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("shipped_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "spend",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("upstream", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("spend", schema=None) as batch_op:
        batch_op.create_index("spend_task", ["task", "at"], unique=False)

    op.create_table(
        "spool_ledger",
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("folder", "task", "name"),
    )
    op.create_table(
        "students",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("base", sa.String(), nullable=False),
        sa.Column("fine_tune_id", sa.String(), nullable=True),
        sa.Column("dataset_id", sa.String(), nullable=True),
        sa.Column("folder", sa.String(), nullable=True),
        sa.Column("weights_hash", sa.String(), nullable=True),
        sa.Column("upstream", sa.String(), nullable=True),
        sa.Column("upstream_model", sa.String(), nullable=True),
        sa.Column("view", JSON_, nullable=False),
        sa.Column("fingerprints", JSON_, nullable=False),
        sa.Column("tools", sa.Boolean(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("erased", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "tasks",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("settings", JSON_, nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "tombstones",
        sa.Column("exchange_id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=True),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("erased_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("exchange_id"),
    )
    op.create_table(
        "bodies",
        sa.Column("exchange_id", sa.String(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["exchange_id"], ["exchanges.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("exchange_id"),
    )
    op.create_table(
        "dataset_rows",
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("exchange_id", sa.String(), nullable=False),
        sa.Column("row", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("dataset_id", "position"),
    )
    with op.batch_alter_table("dataset_rows", schema=None) as batch_op:
        batch_op.create_index("dataset_rows_exchange", ["exchange_id"], unique=False)

    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=True),
        sa.Column("students", JSON_, nullable=False),
        sa.Column("asked", JSON_, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("progress", JSON_, nullable=False),
        sa.Column("report", JSON_, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "fine_tunes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=True),
        sa.Column("base", sa.String(), nullable=False),
        sa.Column("trainer", sa.String(), nullable=False),
        sa.Column("settings", JSON_, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cancel_asked", sa.Boolean(), nullable=False),
        sa.Column("progress", JSON_, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("student_id", sa.String(), nullable=True),
        sa.Column("erased", sa.Integer(), nullable=False),
        sa.Column("trained_tokens", sa.Integer(), nullable=True),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("asked", JSON_, nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "judging",
        sa.Column("exchange_id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("obstacle", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["exchange_id"], ["exchanges.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("exchange_id"),
    )
    with op.batch_alter_table("judging", schema=None) as batch_op:
        batch_op.create_index("judging_next", ["not_before"], unique=False)

    op.create_table(
        "reviews",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("exchange_id", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("reviewed_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["exchange_id"], ["exchanges.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("reviews", schema=None) as batch_op:
        batch_op.create_index("reviews_exchange", ["exchange_id", "reviewed_at"], unique=False)

    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("student_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("policy", JSON_, nullable=False),
        sa.Column("evidence", JSON_, nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("stage_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["student_id"],
            ["students.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.create_index(
            "rollouts_one_moving",
            ["task"],
            unique=True,
            sqlite_where=sa.text("state IN ('running', 'paused')"),
            postgresql_where=sa.text("state IN ('running', 'paused')"),
        )
        batch_op.create_index("rollouts_task", ["task", "created_at"], unique=False)

    op.create_table(
        "scores",
        sa.Column("exchange_id", sa.String(), nullable=False),
        sa.Column("grader", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("input_hash", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("scored_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["exchange_id"], ["exchanges.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("exchange_id", "grader"),
    )
    op.create_table(
        "student_servers",
        sa.Column("student_id", sa.String(), nullable=False),
        sa.Column("wanted_at", sa.Double(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=True),
        sa.Column("served_model", sa.String(), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("capacity_per_s", sa.Double(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["student_id"], ["students.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("student_id"),
    )
    op.create_table(
        "fine_tune_events",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fine_tune_id", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", JSON_, nullable=False),
        sa.ForeignKeyConstraint(["fine_tune_id"], ["fine_tunes.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("fine_tune_events", schema=None) as batch_op:
        batch_op.create_index("fine_tune_events_of", ["fine_tune_id", "id"], unique=False)

    op.create_table(
        "observations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("rollout_id", sa.String(), nullable=False),
        sa.Column("marks", sa.Text(), nullable=False),
        sa.Column("measures", JSON_, nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("observations", schema=None) as batch_op:
        batch_op.create_index("observations_rollout", ["rollout_id", "id"], unique=False)

    op.create_table(
        "pairs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("rollout_id", sa.String(), nullable=False),
        sa.Column("exchange_id", sa.String(), nullable=False),
        sa.Column("session", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("slices", JSON_, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("teacher_output", sa.Text(), nullable=False),
        sa.Column("teacher_second", sa.Text(), nullable=True),
        sa.Column("student_output", sa.Text(), nullable=True),
        sa.Column("student_error", sa.Text(), nullable=True),
        sa.Column("differences", JSON_, nullable=False),
        sa.Column("student_scores", JSON_, nullable=False),
        sa.Column("teacher_scores", JSON_, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("served", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("rollout_id", "session", "day"),
    )
    with op.batch_alter_table("pairs", schema=None) as batch_op:
        batch_op.create_index("pairs_exchange", ["exchange_id"], unique=False)
        batch_op.create_index("pairs_state", ["rollout_id", "state"], unique=False)

    op.create_table(
        "verdicts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("rollout_id", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("numbers", JSON_, nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("verdicts", schema=None) as batch_op:
        batch_op.create_index("verdicts_rollout", ["rollout_id", "id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("verdicts", schema=None) as batch_op:
        batch_op.drop_index("verdicts_rollout")

    op.drop_table("verdicts")
    with op.batch_alter_table("pairs", schema=None) as batch_op:
        batch_op.drop_index("pairs_state")
        batch_op.drop_index("pairs_exchange")

    op.drop_table("pairs")
    with op.batch_alter_table("observations", schema=None) as batch_op:
        batch_op.drop_index("observations_rollout")

    op.drop_table("observations")
    with op.batch_alter_table("fine_tune_events", schema=None) as batch_op:
        batch_op.drop_index("fine_tune_events_of")

    op.drop_table("fine_tune_events")
    op.drop_table("student_servers")
    op.drop_table("scores")
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.drop_index("rollouts_task")
        batch_op.drop_index(
            "rollouts_one_moving",
            sqlite_where=sa.text("state IN ('running', 'paused')"),
            postgresql_where=sa.text("state IN ('running', 'paused')"),
        )

    op.drop_table("rollouts")
    with op.batch_alter_table("reviews", schema=None) as batch_op:
        batch_op.drop_index("reviews_exchange")

    op.drop_table("reviews")
    with op.batch_alter_table("judging", schema=None) as batch_op:
        batch_op.drop_index("judging_next")

    op.drop_table("judging")
    op.drop_table("fine_tunes")
    op.drop_table("evaluations")
    with op.batch_alter_table("dataset_rows", schema=None) as batch_op:
        batch_op.drop_index("dataset_rows_exchange")

    op.drop_table("dataset_rows")
    op.drop_table("bodies")
    op.drop_table("tombstones")
    op.drop_table("tasks")
    op.drop_table("students")
    op.drop_table("spool_ledger")
    with op.batch_alter_table("spend", schema=None) as batch_op:
        batch_op.drop_index("spend_task")

    op.drop_table("spend")
    op.drop_table("segments")
    op.drop_table("sampled")
    op.drop_table("prompt_versions")
    with op.batch_alter_table("outlived", schema=None) as batch_op:
        batch_op.drop_index("outlived_user")

    op.drop_table("outlived")
    with op.batch_alter_table("loop_turns", schema=None) as batch_op:
        batch_op.drop_index("loop_turns_task")
        batch_op.drop_index(
            "loop_turns_one", sqlite_where=sa.text("ended_at IS NULL"), postgresql_where=sa.text("ended_at IS NULL")
        )

    op.drop_table("loop_turns")
    op.drop_table("leases")
    op.drop_table("keys")
    op.drop_table("judgements")
    with op.batch_alter_table("hosted_runs", schema=None) as batch_op:
        batch_op.drop_index("hosted_runs_file")

    op.drop_table("hosted_runs")
    op.drop_table("graded")
    op.drop_table("files")
    with op.batch_alter_table("feedback", schema=None) as batch_op:
        batch_op.drop_index(
            "feedback_unsettled", sqlite_where=sa.text("settled = 0"), postgresql_where=sa.text("NOT settled")
        )
        batch_op.drop_index("feedback_exchange")
        batch_op.drop_index("feedback_created")

    op.drop_table("feedback")
    with op.batch_alter_table("exchanges", schema=None) as batch_op:
        batch_op.drop_index("exchanges_user")
        batch_op.drop_index(
            "exchanges_unscored", sqlite_where=sa.text("score_wanted > 0"), postgresql_where=sa.text("score_wanted > 0")
        )
        batch_op.drop_index("exchanges_task_id")
        batch_op.drop_index("exchanges_task_arm_id")
        batch_op.drop_index("exchanges_session")
        batch_op.drop_index("exchanges_completion")

    op.drop_table("exchanges")
    op.drop_table("evaluation_answers")
    op.drop_table("discovery")
    op.drop_table("datasets")
    op.drop_table("counters")
    op.drop_table("candidates")
    op.drop_table("audit")
