"""`stillhouse tasks status`, `prompts`, `diff`, `try` and `agreement`: what the pages Home and Tasks show of tasks."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from capture.errors import NotFoundError
from console import verbs
from console.cli import whole
from console.cli.context import Json, desk, invocation, show, tasks_in
from console.reads import home, trials
from console.reads import tasks as reads


def status(context: typer.Context, json: Json = False) -> None:
    """Each task's volume, spend, student share, quality, money saved, and what waits for a person."""
    store = invocation(context).store
    rows = [_row(row) for row in home.task_rows(store, time.time())]
    heads = {"task": "task", "stored": "stored", "cost_usd": "spend $ a day", "share": "student share"}
    show(rows, {**heads, "quality": "against teacher", "saved_usd": "saved $", "waits": "waits, or next"}, json)
    loose = home.unmatched(store)
    if loose and not json:
        typer.echo(f"{loose:,} exchanges belong to no task; `stillhouse tasks candidates` groups them")


def _row(row: home.TaskRow) -> dict[str, Any]:
    reading = row.gate.reading if row.gate else None
    return {
        "task": row.name,
        "stored": row.stored,
        "answers": row.recent.count,
        "since": row.recent.since,
        "cost_usd": row.recent.cost_usd,
        "share": row.recent.share,
        "rollout": row.rollout.id if row.rollout else None,
        "quality": reading.mean if reading else None,
        "quality_low": reading.low if reading else None,
        "quality_high": reading.high if reading else None,
        "saved_usd": row.recent.saved_usd,
        "waits": "; ".join(waiting.what for waiting in row.waiting) or None,
    }


def prompts(context: typer.Context, task: str, json: Json = False) -> None:
    """A task's prompt versions, the last seen first."""
    rows = [asdict(found) for found in reads.prompt_versions(desk(context).store, task)]
    show(rows, {"fingerprint": "version", "exchanges": "exchanges", "template": "text"}, json)


def diff(
    context: typer.Context,
    task: str,
    old: Annotated[str, typer.Argument(help="A version, or its last characters.")],
    new: Annotated[str, typer.Argument(help="Another.")],
    json: whole.Json = False,
) -> None:
    """The lines that came and went between two prompt versions."""
    known = reads.prompt_versions(desk(context).store, task)
    said = reads.prompt_diff(_named(known, old), _named(known, new))
    if json:
        whole.tell({"diff": said}, json)
        return
    typer.echo(said or "the same text; tools or schema differ")


def _named(known: list[reads.PromptVersion], end: str) -> reads.PromptVersion:
    found = [version for version in known if version.fingerprint.endswith(end)]
    if len(found) != 1:
        raise NotFoundError(f"{len(found)} prompt versions end with {end!r}; `stillhouse tasks prompts` lists them")
    return found[0]


def try_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="With tasks.NAME tables.")],
    json: whole.Json = False,
) -> None:
    """Before `apply`: what each task's rule takes of the newest traffic, and what its graders say, as JSON."""
    run = desk(context)
    for name, settings in tasks_in(file).items():
        task = verbs.checked_task(settings)
        tried = trials.tried(run.store, name, task)
        whole.tell({"task": name, "rule": trials.matched(run.store, task), "graders": tried}, json)


def agreement(context: typer.Context, task: str, json: Json = False) -> None:
    """How often a task's graders say what people said; a judge gates only with a licence."""
    run = desk(context)
    rows = [
        {**asdict(one.licence), "agree": one.licence.agreement, "kappa": one.kappa, "judge": one.judge}
        for one in trials.agreement(run.store, task, run.task(task))
    ]
    heads = {"grader": "grader", "agree": "agree", "low": "at least", "high": "at most", "kappa": "beyond chance"}
    show(rows, {**heads, "obstacle": "why it does not gate"}, json)


def register(app: typer.Typer) -> None:
    """Beside the other commands of `stillhouse tasks`."""
    for name, command in (("status", status), ("prompts", prompts), ("diff", diff), ("try", try_)):
        app.command(name)(command)
    app.command("agreement")(agreement)
