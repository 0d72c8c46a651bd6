"""Owns how this room's processes start and end: arguments, settings, log lines, signals, exit status."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from capture.errors import StillhouseError
from capture.settings import Settings, of_process


def enter(program: str, run: Callable[[Settings, threading.Event], None], arguments: Sequence[str] | None) -> int:
    """Run until SIGTERM or SIGINT sets the event; 0 done, 1 the world said no, 2 configured wrongly."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args(arguments)
    configure_logs()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        run(of_process(options.config, options.data), stopping)
    except StillhouseError as error:
        print(f"{program}: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def configure_logs() -> None:
    """One JSON object a line on standard error: time, level, event and its figures; never prompts, keys or headers."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
