"""One thing told whole, as JSON: laid out for a reader, or with --json on a line of its own."""

import json as codec
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from pydantic import BaseModel

Json = Annotated[bool, typer.Option("--json", help="On one line.")]


def tell(value: Any, json: bool) -> None:
    """`value`: plain data, dataclasses, structs and settings in any mixture."""
    plain = msgspec.to_builtins(value, enc_hook=_plain, order="deterministic")
    typer.echo(codec.dumps(plain, indent=None if json else 2, ensure_ascii=False))


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
