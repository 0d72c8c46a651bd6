"""The audit is only added to: the database itself refuses to change or delete a line of it."""

from alembic import op

revision = "0002"
down_revision = "0001"

REFUSAL = "the audit trail is only added to"
SQLITE = {
    name: f"CREATE TRIGGER {name} BEFORE {change} ON audit BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
    for name, change in (("audit_not_changed", "UPDATE"), ("audit_not_deleted", "DELETE"))
}
POSTGRES = (
    "CREATE FUNCTION audit_only_added_to() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$",
    "CREATE TRIGGER audit_only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_only_added_to()",
)


def upgrade() -> None:
    sqlite = op.get_context().dialect.name == "sqlite"
    for statement in SQLITE.values() if sqlite else POSTGRES:
        op.execute(statement)


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        for name in SQLITE:
            op.execute(f"DROP TRIGGER {name}")
    else:
        op.execute("DROP TRIGGER audit_only_added_to ON audit")
        op.execute("DROP FUNCTION audit_only_added_to()")
