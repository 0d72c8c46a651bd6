"""`stillhouse loop`: the turns in which a task builds, trains, evaluates and rolls out anew."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from console import looping
from console.cli.context import Json, desk, invocation, show
from students import turns

app = typer.Typer(help="The loop: build, train, evaluate, roll out, again.", no_args_is_help=True)


@app.command("show")
def show_(
    context: typer.Context,
    task: str,
    limit: Annotated[int, typer.Option(help="So many turns, the newest first.")] = 10,
    json: Json = False,
) -> None:
    """A task's turns, each with the record of what happened."""
    found = turns.list_turns(invocation(context).store, task, limit)
    if json:
        rows = [{**asdict(turn), "settings": turn.settings.model_dump(mode="json")} for turn in found]
        show(rows, {}, json)
        return
    if not found:
        typer.echo(
            f"no turn of {task} yet; tasks.{task}.loop.after_rows begins them, or `stillhouse loop begin {task}`"
        )
    for turn in found:
        typer.echo(f"{turn.id}  {turn.state}" + (f" at {turn.step}" if turn.moving else ""))
        for line in turn.record:
            at = datetime.fromtimestamp(line["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
            typer.echo(f"  {at} UTC  {line['who']}: {line['text']}")


@app.command("begin")
def begin(context: typer.Context, task: str) -> None:
    """Begin a turn now."""
    typer.echo(looping.begin_turn(desk(context), task).id)


@app.command("approve")
def approve(context: typer.Context, turn: str) -> None:
    """Let a turn that waits for a person go on."""
    typer.echo(f"{turn} may {looping.approve_turn(desk(context), turn).step}")


@app.command("stop")
def stop(context: typer.Context, turn: str, reason: Annotated[str, typer.Option()] = "") -> None:
    """End a turn, and with it a fine-tune that is under way."""
    looping.stop_turn(desk(context), turn, reason)
    typer.echo(f"stopped {turn}")
