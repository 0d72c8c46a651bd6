"""`stillhouse keys`: gateway keys."""

import time
from dataclasses import asdict
from typing import Annotated

import typer

from capture import keys
from console import verbs
from console.cli.context import Json, desk, invocation, show

app = typer.Typer(help="Gateway keys.", no_args_is_help=True)
DAY_S = 86_400


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="Whose it is.")],
    task: Annotated[list[str] | None, typer.Option(help="Only for this task; may be given several times.")] = None,
    days: Annotated[float | None, typer.Option(help="Expires after so many days.")] = None,
) -> None:
    """Make a key and show it, this once."""
    expires_at = time.time() + days * DAY_S if days is not None else None
    typer.echo(verbs.create_key(desk(context), name, task or (), expires_at))


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """Every key, by its first characters."""
    heads = {"id": "id", "name": "name", "prefix": "begins with", "tasks": "tasks", "revoked_at": "revoked"}
    show([asdict(key) for key in keys.list_keys(invocation(context).store)], heads, json)


@app.command("revoke")
def revoke(context: typer.Context, key: str) -> None:
    """End a key everywhere."""
    verbs.revoke_key(desk(context), key)
    typer.echo(f"revoked {key}")
