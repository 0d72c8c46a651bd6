"""`stillhouse tasks`: what is distilled."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from capture.discovery import Candidate, list_candidates
from capture.tasks import load_tasks, sync_tasks
from capture.traffic import volumes
from console import verbs
from console.cli import whole
from console.cli.context import Json, desk, invocation, show, tasks_in

app = typer.Typer(help="Tasks: narrow, named workloads.", no_args_is_help=True)


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """Every task with its traffic."""
    run = invocation(context)
    sync_tasks(run.store, run.settings)
    counted = {volume.task: volume for volume in volumes(run.store)}
    rows = []
    for name, task in load_tasks(run.store).items():
        volume = counted.get(name)
        rows.append(
            {
                "task": name,
                "kind": task.kind,
                "teacher": f"{task.teacher.upstream}/{task.teacher.model}",
                "exchanges": volume.exchanges if volume else 0,
                "cost_usd": volume.cost_usd if volume else 0.0,
                "source": "file" if name in run.settings.tasks else "console",
            }
        )
    heads = {"task": "task", "kind": "kind", "teacher": "teacher", "exchanges": "exchanges", "cost_usd": "spend $"}
    show(rows, {**heads, "source": "from"}, json)


@app.command("candidates")
def candidates(context: typer.Context, limit: int = 20, json: Json = False) -> None:
    """Unmatched traffic that could become tasks, as the worker grouped it by prompt and tools; dearest first."""
    run = invocation(context)
    sync_tasks(run.store, run.settings)
    rows = [_candidate(one) for one in list_candidates(run.store, load_tasks(run.store), limit)]
    heads = {"exchanges": "exchanges", "per_day": "a day", "cost_usd": "spend $"}
    heads |= {"saving_usd_month": "student saves $ a month", "tools": "tools", "rule": "match"}
    show(rows, {**heads, "template": "template"}, json)


def _candidate(one: Candidate) -> dict[str, Any]:
    rule = one.match.model_dump(exclude_defaults=True) if one.match else None
    told = rule or "by x-stillhouse-task only"
    return {**asdict(one), "tools": ", ".join(one.tools) or None, "match": rule, "rule": told}


@app.command("show")
def show_(context: typer.Context, task: str, json: whole.Json = False) -> None:
    """A task's settings, as JSON."""
    whole.tell(desk(context).task(task), json)


@app.command("apply")
def apply(context: typer.Context, file: Path) -> None:
    """Make or change tasks from the tasks.NAME tables of a TOML file."""
    for name, settings in tasks_in(file).items():
        verbs.save_task(desk(context), name, settings)
        typer.echo(f"saved {name}")
