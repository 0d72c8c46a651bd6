"""`stillhouse evaluations`: students against the teacher on a holdout."""

import json as codec
from typing import Annotated, Any

import typer
from sqlalchemy import select

from capture.errors import NotFoundError
from console import verbs
from console.cli.context import desk, invocation
from console.cli.waiting import Wait, follow
from students.tables import evaluations

app = typer.Typer(help="Evaluations on the sealed holdout.", no_args_is_help=True)


@app.command("run")
def run(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="An id, or TASK@VERSION.")],
    students: Annotated[list[str], typer.Argument(help="Ids or names.")],
    base: Annotated[bool, typer.Option("--base/--no-base", help="Beside them, their untuned base.")] = True,
    wait: Wait = True,
) -> None:
    """Evaluate students on a dataset's holdout."""
    evaluation_id = verbs.evaluate(desk(context), dataset, students, base)
    typer.echo(evaluation_id)
    if wait:
        follow(lambda: _state(context, evaluation_id))


@app.command("show")
def show_(context: typer.Context, evaluation: str) -> None:
    """An evaluation's report, as JSON."""
    row = _load(context, evaluation)
    typer.echo(codec.dumps({"id": row.id, "state": row.state, "error": row.error, "report": row.report}, indent=2))


def _state(context: typer.Context, evaluation_id: str) -> tuple[str, str, Any]:
    row = _load(context, evaluation_id)
    done = f"{row.progress.get('done', 0)} of {row.progress.get('total', '?')} answers"
    return row.state, f"{row.state}, {done}", row.error


def _load(context: typer.Context, evaluation_id: str) -> Any:
    with invocation(context).store.read() as connection:
        row = connection.execute(select(evaluations).where(evaluations.c.id == evaluation_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no evaluation {evaluation_id!r}")
    return row
