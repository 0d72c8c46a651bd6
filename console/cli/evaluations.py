"""`stillhouse evaluations`: students, bases and models against the teacher, on a holdout or on replayed traffic."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from capture.datasets import Filters
from console import evaluating
from console.cli import whole
from console.cli.context import Json, desk, invocation, model_at, show, text_of
from console.cli.waiting import Wait, follow
from console.reads import evaluations as reads
from students import registry
from students.asking import Asked, Contender, Referee, Replay

app = typer.Typer(help="Evaluations on the sealed holdout, or on captured traffic.", no_args_is_help=True)

Models = Annotated[list[str] | None, typer.Option("--model", help="UPSTREAM/MODEL, also examined; several times.")]
System = Annotated[Path | None, typer.Option(help="A file whose text replaces the system prompt for each --model.")]
Judge = Annotated[str | None, typer.Option(help="UPSTREAM/MODEL that judges answers head to head, in both orders.")]
Greedy = Annotated[bool, typer.Option("--greedy", help="Students also without chance in their sampling.")]
Twice = Annotated[bool, typer.Option("--twice", help="Ask the teacher again: its agreement with itself.")]


@app.command("run")
def run(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="An id, or TASK@VERSION.")],
    students: Annotated[list[str] | None, typer.Argument(help="Ids or names.")] = None,
    base: Annotated[bool, typer.Option("--base/--no-base", help="Beside them, their untuned base.")] = True,
    few_shot: Annotated[int | None, typer.Option(help="Examples in the prompt of that base; 0: none.")] = None,
    base_rows: Annotated[int | None, typer.Option(help="At most so many holdout rows for bases.")] = None,
    greedy: Greedy = False,
    twice: Twice = False,
    model: Models = None,
    system: System = None,
    judge: Judge = None,
    temporal: Annotated[bool, typer.Option("--temporal", help="Only rows newer than all training rows.")] = False,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Leave out rows that overlap with training.")] = False,
    wait: Wait = True,
) -> None:
    """Evaluate students, bases and models on a dataset's holdout."""
    asked = Asked(
        few_shot=few_shot,
        base_rows=base_rows,
        greedy=greedy,
        twice=twice,
        models=_models(model, system),
        referee=_referee(judge),
        temporal=temporal,
        leave_out=leave_out,
    )
    _follow(context, evaluating.evaluate(desk(context), dataset, students or [], base, asked), wait)


@app.command("rival")
def rival(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="An id, or TASK@VERSION.")],
    base: Annotated[str | None, typer.Option(help="A base model; by default the task's.")] = None,
    examples: Annotated[int, typer.Option(help="Training rows in its prompt.")] = 4,
    wait: Wait = True,
) -> None:
    """Before anything is trained: does the base reach the bar by prompting alone?"""
    _follow(context, evaluating.rival(desk(context), dataset, base, examples), wait)


@app.command("replay")
def replay(
    context: typer.Context,
    task: str,
    students: Annotated[list[str] | None, typer.Argument(help="Ids or names.")] = None,
    since: Annotated[float | None, typer.Option(help="Unix seconds.")] = None,
    until: Annotated[float | None, typer.Option(help="Unix seconds.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; several times.")] = None,
    rows: Annotated[int, typer.Option(help="At most so many, drawn evenly.")] = 200,
    greedy: Greedy = False,
    twice: Twice = False,
    model: Models = None,
    system: System = None,
    judge: Judge = None,
    wait: Wait = True,
) -> None:
    """Evaluate students and models on captured traffic; rows like a student's training rows are left out."""
    named = {name: value for name, _, value in (item.partition("=") for item in metadata or ())}
    asked = Asked(
        with_base=False,
        greedy=greedy,
        twice=twice,
        models=_models(model, system),
        referee=_referee(judge),
        replay=Replay(Filters(since=since, until=until, metadata=named), rows),
    )
    _follow(context, evaluating.replay(desk(context), task, students or [], asked), wait)


@app.command("list")
def list_(
    context: typer.Context,
    task: Annotated[str | None, typer.Option()] = None,
    student: Annotated[str | None, typer.Option(help="Only those that this student was part of.")] = None,
    json: Json = False,
) -> None:
    """The newest evaluations first."""
    store = invocation(context).store
    if student is None:
        found = reads.list_evaluations(store, task)
    else:
        one = registry.load_student(store, student)
        found = reads.evaluations_of(store, one.id, one.task)
    rows = [msgspec.to_builtins(one) for one in found]
    show(rows, {"id": "id", "task": "task", "state": "state", "dataset_id": "dataset", "error": "error"}, json)


@app.command("show")
def show_(context: typer.Context, evaluation: str, json: whole.Json = False) -> None:
    """An evaluation's report, as JSON."""
    row = msgspec.to_builtins(reads.load_evaluation(invocation(context).store, evaluation))
    whole.tell({name: row[name] for name in ("id", "state", "error", "asked", "report")}, json)


def _models(named: list[str] | None, system: Path | None) -> tuple[Contender, ...]:
    prompt = text_of(system)
    return tuple(Contender(*model_at(name), prompt) for name in named or ())


def _referee(named: str | None) -> Referee | None:
    return None if named is None else Referee(*model_at(named))


def _follow(context: typer.Context, evaluation_id: str, wait: bool) -> None:
    typer.echo(evaluation_id)
    if wait:
        follow(lambda: _state(context, evaluation_id))
        report = reads.load_evaluation(invocation(context).store, evaluation_id).report
        for note in report.notes if report else ():
            typer.echo(note)


def _state(context: typer.Context, evaluation_id: str) -> tuple[str, str, Any]:
    row = reads.load_evaluation(invocation(context).store, evaluation_id)
    done = f"{row.progress.get('done', 0)} of {row.progress.get('total', '?')} answers"
    return row.state, f"{row.state}, {done}", row.error
