"""`stillhouse tasks`: what is distilled."""

import tomllib
from pathlib import Path

import typer

from capture.errors import RefusedError
from capture.tasks import load_tasks, sync_tasks
from capture.traffic import volumes
from console import verbs
from console.cli.context import Json, desk, invocation, show

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


@app.command("show")
def show_(context: typer.Context, task: str) -> None:
    """A task's settings, as JSON."""
    typer.echo(verbs.task_of(desk(context), task).model_dump_json(indent=2))


@app.command("apply")
def apply(context: typer.Context, file: Path) -> None:
    """Make or change tasks from the [tasks.NAME] tables of a TOML file."""
    try:
        tasks = tomllib.loads(file.read_text(encoding="utf-8")).get("tasks", {})
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RefusedError(f"{file}: {error}") from error
    if not tasks:
        raise RefusedError(f"{file} has no [tasks.NAME] table")
    for name, settings in tasks.items():
        verbs.save_task(desk(context), name, settings)
        typer.echo(f"saved {name}")
