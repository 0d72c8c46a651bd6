"""`stillhouse traffic`: what was asked and answered."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from capture import traffic
from capture.reviews import Verdict
from console import verbs
from console.cli.context import Json, desk, invocation, show

app = typer.Typer(help="Captured exchanges.", no_args_is_help=True)
Task = Annotated[str | None, typer.Option(help="Only this task.")]
Arm = Annotated[str | None, typer.Option(help="Only teacher, student or fallback.")]
PAGE = 200


@app.command("list")
def list_(
    context: typer.Context,
    task: Task = None,
    arm: Arm = None,
    before: Annotated[str | None, typer.Option(help="Only older than this exchange.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    json: Json = False,
) -> None:
    """The newest exchanges first; `--before ID` goes on from the last one shown."""
    wanted = traffic.TrafficFilter(task=task, arm=arm)
    rows = [_row(found) for found in traffic.list_exchanges(invocation(context).store, wanted, before, limit)]
    heads = {"id": "id", "task": "task", "arm": "arm", "status": "status", "duration_ms": "ms", "preview": "preview"}
    show(rows, heads, json)


@app.command("show")
def show_(context: typer.Context, exchange: str) -> None:
    """One exchange whole: request, answer, scores, feedback and reviews, as JSON. By its id or its completion's."""
    found = traffic.load_exchange(invocation(context).store, exchange)
    typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


@app.command("export")
def export(context: typer.Context, file: Path, task: Task = None, arm: Arm = None) -> None:
    """Every exchange that matches, redacted as it is stored, one JSON object a line."""
    run = desk(context)
    count, before = 0, None
    with file.open("x", encoding="utf-8") as target:
        while rows := traffic.list_exchanges(run.store, traffic.TrafficFilter(task=task, arm=arm), before, PAGE):
            for row in rows:
                found = traffic.load_exchange(run.store, row.id)
                target.write(msgspec.json.encode(found).decode() + "\n")
            count, before = count + len(rows), rows[-1].id
    run.record("traffic.export", str(task), rows=count)
    typer.echo(f"{count} exchanges in {file}")


@app.command("review")
def review(
    context: typer.Context,
    exchange: str,
    verdict: Annotated[Verdict, typer.Argument()],
    output: Annotated[str | None, typer.Option(help="The corrected output.")] = None,
) -> None:
    """Accept, reject or correct an exchange."""
    verbs.review(desk(context), exchange, verdict, output)
    typer.echo(f"{verdict}: {exchange}")


@app.command("erase")
def erase(
    context: typer.Context,
    exchanges: Annotated[list[str] | None, typer.Argument()] = None,
    user: Annotated[str | None, typer.Option(help="Everything of this user.")] = None,
) -> None:
    """Delete exchanges, or all of a user's, and say which datasets they had gone into."""
    typer.echo(verbs.erase(desk(context), exchanges or (), user))


def _row(found: Any) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(found)
    return row
