"""`stillhouse rollouts`: traffic moves on proof."""

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from console import verbs
from console.cli.context import Json, desk, invocation, show
from console.cli.waiting import ENDED_BADLY, ENDED_WELL, POLL_S
from students import registry, rollouts

app = typer.Typer(help="Rollouts: from shadow to full traffic, by verdicts.", no_args_is_help=True)
Reason = Annotated[str, typer.Option(help="Stands in the rollout's history.")]


@app.command("start")
def start(
    context: typer.Context,
    student: str,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, and move nothing.")] = False,
    why: Annotated[str | None, typer.Option(help="Why a student without an evaluation may start.")] = None,
) -> None:
    """Start a student's rollout at shadow, by its task's policy."""
    run = desk(context)
    found = registry.load_student(run.store, student)
    asked = rollouts.Start(
        found.task, found.id, run.actor.name, reason=why or "", force=why is not None, dry_run=dry_run
    )
    typer.echo(verbs.start_rollout(run, asked).id)


@app.command("status")
def status(
    context: typer.Context,
    rollout: Annotated[str | None, typer.Argument(help="One rollout's verdicts; without it: all rollouts.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until it ends.")] = False,
    json: Json = False,
) -> None:
    """Where rollouts stand, and why."""
    store = invocation(context).store
    if rollout is None:
        heads = {
            "id": "id",
            "task": "task",
            "student_id": "student",
            "state": "state",
            "share": "share",
            "reason": "why",
        }
        show([asdict(found) for found in rollouts.list_rollouts(store)], heads, json)
        return
    last = ""
    while True:
        fresh = [verdict for verdict in rollouts.list_verdicts(store, rollout) if verdict.id > last]
        for verdict in fresh:
            _print(verdict, json)
            last = verdict.id
        if not follow or rollouts.load_rollout(store, rollout).state in (*ENDED_WELL, *ENDED_BADLY):
            return
        time.sleep(POLL_S)


@app.command("pause")
def pause(context: typer.Context, rollout: str, reason: Reason = "") -> None:
    """Keep the share where it is until somebody resumes."""
    _steer(context, "pause", rollout, reason)


@app.command("resume")
def resume(context: typer.Context, rollout: str, reason: Reason = "") -> None:
    """Let verdicts move the share again."""
    _steer(context, "resume", rollout, reason)


@app.command("promote")
def promote(context: typer.Context, rollout: str, reason: Reason = "") -> None:
    """Go to the next stage whatever the evidence says; needs a reason."""
    _steer(context, "promote", rollout, reason)


@app.command("abort")
def abort(context: typer.Context, rollout: str, reason: Reason = "") -> None:
    """Give all the traffic back to the teacher and end the rollout; needs a reason."""
    _steer(context, "abort", rollout, reason)


def _steer(context: typer.Context, verb: str, rollout: str, reason: str) -> None:
    verbs.steer(desk(context), verb, rollout, reason)
    typer.echo(f"{verb}: {rollout}")


def _print(verdict: Any, json: bool) -> None:
    if json:
        show([asdict(verdict)], {}, as_json=True)
    else:
        clock = time.strftime("%H:%M:%S", time.localtime(verdict.at))
        typer.echo(f"{clock}  {verdict.share:6.1%}  {verdict.kind:9}  {verdict.sentence}")
