"""What a command works with: the settings and the store of this invocation, opened when first asked for."""

import getpass
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from capture import settings as configuration
from capture.db import Store, open_store
from capture.errors import RefusedError, UsageError
from capture.migrations import upgrade
from capture.settings import Settings
from console.access import Actor, Desk, Role

_CAPTURED = frozenset({"preview", "template"})
"""Columns of captured text: a line each, cut where the terminal ends."""

_PIPED = 10_000  # characters: no terminal, so a row is a line

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


class Invocation:
    """One run of the command: where its settings come from, and its desk."""

    def __init__(self, config: Path | None, data: Path | None, environ: Mapping[str, str], folder: Path) -> None:
        self.environ = environ
        self.folder = folder
        self._option = config
        self._data = data

    @cached_property
    def config(self) -> Path | None:
        return configuration.find_config(self._option, self.environ, self.folder)

    @cached_property
    def settings(self) -> Settings:
        return configuration.load(self.config, self.environ, data=self._data)

    @cached_property
    def store(self) -> Store:
        """The store, its tables made or brought up to date."""
        store = open_store(self.settings.store_url)
        upgrade(store)
        return store

    @cached_property
    def desk(self) -> Desk:
        """The command's user owns the files that it works on, and so may do everything."""
        return Desk(self.store, self.settings, Actor(getpass.getuser(), Role.OPERATOR))


def begin(context: typer.Context, config: Path | None, data: Path | None) -> None:
    """Called by the command's root before every command."""
    context.obj = Invocation(config, data, os.environ, Path.cwd())  # the one place of this process that reads it


def invocation(context: typer.Context) -> Invocation:
    found = context.find_object(Invocation)
    assert found is not None, "the root callback sets it"
    return found


def desk(context: typer.Context) -> Desk:
    return invocation(context).desk


def model_at(text: str) -> tuple[str, str]:
    """(upstream, model) of UPSTREAM/MODEL. Raises UsageError for anything else."""
    upstream, _, model = text.partition("/")
    if not upstream or not model:
        raise UsageError(f"{text!r} must look like UPSTREAM/MODEL")
    return upstream, model


def tasks_in(file: Path) -> dict[str, Any]:
    """The [tasks.NAME] tables of a TOML file. Raises RefusedError for a file without one."""
    try:
        tasks: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8")).get("tasks", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RefusedError(f"{file}: {error}") from error
    if not tasks:
        raise RefusedError(f"{file} has no [tasks.NAME] table")
    return tasks


def changes_of(given: Sequence[str] | None, option: str) -> dict[str, Any]:
    """NAME=VALUE, several times, as a mapping; a value that is JSON is read as such. Raises UsageError."""
    found: dict[str, Any] = {}
    for part in given or ():
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {part!r}: write NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def text_of(file: Path | None) -> str | None:
    """What a file that an option names says. Raises UsageError where it cannot be read."""
    try:
        return None if file is None else file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no text in UTF-8") from error


def show(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], as_json: bool) -> None:
    """Rows as a table (`columns` maps a key to its heading), or every key of each as one JSON object a line."""
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, default=str, ensure_ascii=False))
        return
    terminal = sys.stdout.isatty()
    table = Table(box=None, header_style="bold", pad_edge=False, expand=terminal)
    for key, heading in columns.items():
        captured, last = key in _CAPTURED, key == [*columns][-1]
        overflow: Any = "ellipsis" if captured else "fold"
        ratio = 1 if last else None
        table.add_column(heading, overflow=overflow, no_wrap=captured or key == "id", ratio=ratio)
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    if table.row_count:
        Console(highlight=False, width=None if terminal else _PIPED).print(table)
    else:
        typer.echo("nothing yet")


def _cell(value: Any) -> str:
    """One line, shown as text: rich's markup in captured data must not act."""
    if value is None or value in ("", {}):
        return "–"
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    return harmless(text).replace("[", r"\[")


def harmless(text: str) -> str:
    """Captured text for a terminal, on which its control characters would act."""
    return _CONTROLS.sub("\ufffd", text)
