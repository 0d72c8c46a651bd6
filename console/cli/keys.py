"""`stillhouse keys`: gateway keys."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from capture import keys
from capture.errors import UsageError
from console import verbs
from console.cli.context import Json, desk, invocation, show

app = typer.Typer(help="Gateway keys.", no_args_is_help=True)
DAY_S = 86_400
LIMITS = tuple(keys.KeyLimits.__dataclass_fields__)


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="Whose it is.")],
    task: Annotated[list[str] | None, typer.Option(help="Only for this task; may be given several times.")] = None,
    days: Annotated[float | None, typer.Option(help="Expires after so many days.")] = None,
    limit: Annotated[list[str] | None, typer.Option(help=f"NAME=NUMBER, NAME one of {', '.join(LIMITS)}.")] = None,
) -> None:
    """Make a key and show it, this once."""
    expires_at = time.time() + days * DAY_S if days is not None else None
    typer.echo(verbs.create_key(desk(context), name, task or (), expires_at, _limits(limit or ())))


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


def _limits(given: Sequence[str]) -> keys.KeyLimits:
    chosen: dict[str, int | float] = {}
    for part in given:
        name, _, number = part.partition("=")
        try:
            chosen[name] = float(number) if name == "monthly_usd" else int(number)
        except ValueError as error:
            raise UsageError(f"--limit {part!r}: {number!r} is no number") from error
        if name not in LIMITS or chosen[name] <= 0:
            raise UsageError(f"--limit {part!r}: write NAME=NUMBER above 0 with NAME one of {', '.join(LIMITS)}")
    return keys.KeyLimits(**chosen)  # type: ignore[arg-type]
