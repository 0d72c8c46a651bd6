"""`stillhouse students`: fine-tunes, and the small models that come out of them."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from sqlalchemy import select

from capture import datasets
from capture.errors import NotFoundError
from console import registering, verbs
from console.cli import whole
from console.cli.context import Json, changes_of, desk, invocation, show
from console.cli.processes import become
from console.cli.waiting import Wait, follow
from console.reads import estimates
from console.reads import fine_tunes as jobs
from students import registry, rival
from students.tables import fine_tunes

app = typer.Typer(help="Students: small models, and the fine-tunes that make them.", no_args_is_help=True)


@app.command("train")
def train(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="An id, or TASK@VERSION.")],
    base: Annotated[str | None, typer.Option(help="A base model: `stillhouse models list`.")] = None,
    epochs: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE over the task's training: learning_rate=0.001, rank=8."),
    ] = None,
    at: Annotated[str | None, typer.Option(help="An upstream that trains its model --base, at its price.")] = None,
    wait: Wait = True,
) -> None:
    """Fine-tune a student on a dataset, with a live loss, tokens per second and the time left."""
    own = {key: value for key, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    changes = {**changes_of(set_, "--set"), **own}
    typer.echo(_rival(context, dataset), err=True)
    fine_tune_id = verbs.train(desk(context), dataset, base, changes, at)
    typer.echo(fine_tune_id)
    if wait:
        follow(lambda: _fine_tune(context, fine_tune_id))


@app.command("estimate")
def estimate(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="An id, or TASK@VERSION.")],
    base: Annotated[str | None, typer.Option(help="By default the task's.")] = None,
    epochs: Annotated[float | None, typer.Option()] = None,
    at: Annotated[str | None, typer.Option(help="An upstream that would train it.")] = None,
    json: whole.Json = False,
) -> None:
    """What a fine-tune would take, as JSON: tokens, seconds, US dollars; null where it is not known."""
    run = desk(context)
    card = datasets.load_card(run.store, datasets.resolve(run.store, dataset))
    training = run.task(card.task).training
    name, rounds = base or training.base, epochs or training.epochs
    if at is None:
        found = estimates.estimate(card, rounds, estimates.pace(run.store, name))
    else:
        found = estimates.hosted(card, rounds, name, run.settings)
    whole.tell(found, json)


@app.command("fine-tunes")
def fine_tunes_(context: typer.Context, task: Annotated[str | None, typer.Option()] = None, json: Json = False) -> None:
    """Every fine-tune, newest first."""
    rows = [asdict(found) for found in jobs.list_fine_tunes(invocation(context).store, task)]
    heads = {"id": "id", "task": "task", "base": "base", "trainer": "trainer", "state": "state"}
    show(rows, {**heads, "student_id": "student", "error": "error"}, json)


@app.command("events")
def events(context: typer.Context, fine_tune: str, json: Json = False) -> None:
    """What a fine-tune said, its loss by step among it, oldest first."""
    store = invocation(context).store
    jobs.load_fine_tune(store, fine_tune)
    rows = [asdict(event) for event in jobs.events_of(store, fine_tune)]
    show(rows, {"at": "at", "level": "level", "message": "message"}, json)


@app.command("cancel")
def cancel(context: typer.Context, fine_tune: str) -> None:
    """Stop a fine-tune that is queued or running."""
    verbs.cancel_fine_tune(desk(context), fine_tune)
    typer.echo(f"asked {fine_tune} to stop")


@app.command("list")
def list_(context: typer.Context, task: Annotated[str | None, typer.Option()] = None, json: Json = False) -> None:
    """Every student, newest first, and whether it is served."""
    store = invocation(context).store
    rows = []
    for student in registry.list_students(store, task):
        server = registry.server_of(store, student.id)
        served = {
            "server": server.state if server else "–",
            "capacity_per_s": server.capacity_per_s if server else None,
        }
        rows.append({**asdict(student), **served})
    heads = {
        "id": "id",
        "name": "name",
        "task": "task",
        "kind": "kind",
        "server": "server",
        "capacity_per_s": "answers/s",
        "erased": "rows erased since",
    }
    show(rows, heads, json)


@app.command("show")
def show_(context: typer.Context, student: str, json: whole.Json = False) -> None:
    """A student with its lineage, as JSON."""
    store = invocation(context).store
    found = registry.load_student(store, student)
    server = registry.server_of(store, found.id)
    whole.tell({**asdict(found), "server": server}, json)


@app.command("serve")
def serve(
    context: typer.Context,
    student: Annotated[
        str | None, typer.Argument(help="Ask for this one too; without it: run the student server.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="No longer serve the named student.")] = False,
) -> None:
    """Run the student server, or ask it for one student more."""
    if student is None:
        become(invocation(context), "students.server")
    verbs.serve(desk(context), str(student), wanted=not stop)
    typer.echo(f"{'no longer wanted' if stop else 'wanted'}: {student}")


@app.command("register")
def register(
    context: typer.Context,
    task: str,
    upstream: Annotated[str, typer.Argument(help="An upstream of stillhouse.toml.")],
    model: str,
    like: Annotated[str | None, typer.Option(help="A student whose view, prompts and dataset it has.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset that it was trained on.")] = None,
) -> None:
    """Make a model at an upstream a student: a vLLM server of yours, or a hosted fine-tune."""
    found = registering.register_student(desk(context), task, (upstream, model), like=like, dataset=dataset)
    typer.echo(f"{found.id}  {found.name}")


@app.command("vllm-command")
def vllm_command(
    context: typer.Context,
    students: Annotated[list[str], typer.Argument(help="Ids or names of local students with one base.")],
    port: Annotated[int, typer.Option()] = 8000,
) -> None:
    """The command that serves local students by vLLM, and what to tell Stillhouse of it."""
    for line in registering.vllm_lines(desk(context), students, port):
        typer.echo(line)


def _rival(context: typer.Context, dataset: str) -> str:
    """What is known of the rival by prompting, before anything is trained."""
    store = invocation(context).store
    task = datasets.load_card(store, datasets.resolve(store, dataset)).task
    unheard = f"Whether prompting alone is enough is not known: `stillhouse evaluations rival {dataset}` says it."
    return rival.last_word(store, task) or unheard


def _fine_tune(context: typer.Context, fine_tune_id: str) -> tuple[str, str, Any]:
    with invocation(context).store.read() as connection:
        row = connection.execute(select(fine_tunes).where(fine_tunes.c.id == fine_tune_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no fine-tune {fine_tune_id!r}")
    progress = row.progress or {}
    parts = [row.state]
    if progress.get("total_steps"):
        parts.append(f"step {progress.get('step', 0)} of {progress['total_steps']}")
    for key, form in (("loss", "loss {:.3f}"), ("tokens_per_s", "{:.0f} tokens/s"), ("seconds_left", "{:.0f} s left")):
        if progress.get(key) is not None:
            parts.append(form.format(progress[key]))
    if row.student_id:
        parts.append(f"student {row.student_id}")
    return row.state, ", ".join(parts), row.error
