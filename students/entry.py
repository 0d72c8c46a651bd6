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

SHARED: tuple[structlog.typing.Processor, ...] = (
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
            foreign_pre_chain=SHARED,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for chatty in ("alembic", "dbos", "httpx2", "httpcore2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
