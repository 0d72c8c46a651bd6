"""Alembic's entry: runs revisions on the connection that capture.migrations hands over."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import JSON

from capture.db import metadata
from capture.full_text import NAME


def render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Revisions name our JSON type (JSONB on PostgreSQL) by the word that script.py.mako defines."""
    return "JSON_" if kind == "type" and isinstance(item, JSON) else False


def is_ours(name: str | None, kind: str, _parents: Any) -> bool:
    """The full-text index is made and dropped by capture.full_text."""
    return kind != "table" or not (name or "").startswith(NAME)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    render_item=render,
    include_name=is_ours,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
