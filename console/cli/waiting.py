"""Following a row that the worker is at work on, until it ends."""

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from capture.errors import OperationError

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it until it ends.")]
ENDED_WELL = ("ready", "succeeded", "full")
ENDED_BADLY = ("failed", "cancelled", "rolled_back", "aborted")
POLL_S = 0.5


def follow(look: Callable[[], tuple[str, str, Any]]) -> None:
    """Prints `look`'s text whenever it changes. `look` returns (state, text, error or None).

    Raises OperationError when it ends badly. Ctrl-C stops the following, not the work.
    """
    shown = ""
    while True:
        state, text, error = look()
        if text != shown:
            typer.echo(text)
            shown = text
        if state in ENDED_WELL:
            return
        if state in ENDED_BADLY:
            raise OperationError(f"{state}: {error or 'no reason was recorded'}")
        time.sleep(POLL_S)
