"""`stillhouse models`: the base models that students are made from."""

from typing import Annotated

import typer

from console import verbs
from console.cli.context import Json, desk, invocation, show
from students import bases

app = typer.Typer(help="Base models.", no_args_is_help=True)


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """The bases that Stillhouse knows, and whether they lie here."""
    folder = invocation(context).settings.models_folder
    rows = [{**bases.describe(base), "here": bases.is_pulled(base, folder)} for base in bases.BASES.values()]
    show(
        rows, {"name": "name", "kind": "from", "context_tokens": "context", "licence": "licence", "here": "here"}, json
    )


@app.command("pull")
def pull(context: typer.Context, name: Annotated[str, typer.Argument()] = "smollm2-135m-instruct") -> None:
    """Fetch a base, check its hash and convert it."""
    typer.echo(f"{name} is in {verbs.pull_base(desk(context), name)}")
