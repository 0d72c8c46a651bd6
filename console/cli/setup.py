"""`stillhouse init`, `doctor` and `db upgrade`: what comes before the first request."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from capture.db import Store
from capture.errors import DiskError, OperationError, RefusedError
from console import doctor
from console.cli.context import Invocation, Json, begin, invocation, show

TEMPLATE = Path(__file__).parent.parent / "template.toml"


def register(app: typer.Typer) -> None:
    """Adds the root's options and this file's commands."""

    @app.callback()
    def root(
        context: typer.Context,
        config: Annotated[
            Path | None, typer.Option(help="stillhouse.toml; else $STILLHOUSE_CONFIG, else here.")
        ] = None,
        data: Annotated[Path | None, typer.Option(help="The data folder; else $STILLHOUSE_DATA, else ./data.")] = None,
    ) -> None:
        begin(context, config, data)

    app.command()(init)
    app.command("doctor")(examine)
    db = typer.Typer(help="The store's tables.", no_args_is_help=True)
    db.command("upgrade")(upgrade)
    app.add_typer(db, name="db")


def init(file: Path = Path("stillhouse.toml")) -> None:
    """Write a commented stillhouse.toml."""
    text = TEMPLATE.read_text(encoding="utf-8")
    try:
        target = file.open("x", encoding="utf-8")
    except FileExistsError as error:
        raise RefusedError(f"{file} is there already; move it away, or edit it") from error
    except OSError as error:
        raise OperationError(f"{file} cannot be written: {error.strerror}") from error
    try:
        with target:
            target.write(text)
    except OSError as error:  # only now was there no room for it
        file.unlink()
        raise DiskError(f"{file} cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {file}; name your upstream in it, then: stillhouse doctor && stillhouse up")


def examine(
    context: typer.Context,
    worker: Annotated[bool, typer.Option(help="Only: is the worker alive?")] = False,
    students: Annotated[bool, typer.Option(help="Only: is the student server alive?")] = False,
    json: Json = False,
) -> None:
    """Say what is missing, one line each."""
    run: Invocation = invocation(context)
    if worker or students:
        findings = [_alive(run, doctor.worker if worker else doctor.students)]
    else:
        findings = list(doctor.examine(run.settings, run.environ))
    rows = [{"level": finding.level, "subject": finding.subject, "text": finding.text} for finding in findings]
    show(rows, {"level": "", "subject": "what", "text": "found"}, json)
    if any(finding.level == "missing" for finding in findings):
        raise typer.Exit(1)


def _alive(run: Invocation, look: Callable[[Store], doctor.Finding]) -> doctor.Finding:
    """What `look` finds in the store, or else what is the matter with the store."""
    found, opened = doctor.store(run.settings)
    return found if opened is None else doctor.ask(opened, look)


def upgrade(context: typer.Context) -> None:
    """Bring the store's tables up to date; every process also does so when it starts."""
    invocation(context).store  # noqa: B018  opening it upgrades it
    typer.echo("the store's tables are up to date")
