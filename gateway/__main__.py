"""`python -m gateway`: reads the settings, opens the port, and serves by itself or through a supervisor."""

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from capture import settings as configuration
from capture.db import open_store
from capture.errors import StillhouseError, StoreAwayError
from capture.migrations import upgrade
from capture.settings import Settings
from capture.tasks import sync_tasks
from gateway import logs
from gateway.accounts import Accounts
from gateway.app import Place
from gateway.metrics_server import MetricsServer
from gateway.run_folder import RunFolder
from gateway.serve import end_with, listen, serve
from gateway.supervisor import Supervisor

_log = structlog.get_logger("stillhouse.gateway")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 done, 1 failed (busy port, full disk), 2 configured wrongly."""
    options = _parser().parse_args(arguments)
    logs.configure()
    try:
        settings = _settings(options)
        if options.socket_fd is not None:
            return _work(settings, options)
        return _lead(settings, options)
    except StillhouseError as error:
        print(f"stillhouse gateway: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stillhouse gateway", description="The OpenAI-compatible gateway.")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--metrics-port", type=int)
    parser.add_argument("--socket-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    """The file and the environment, with the options on top of them. Raises ConfigError."""
    names = {
        "host": options.host,
        "port": options.port,
        "workers": options.workers,
        "metrics_port": options.metrics_port,
    }
    given = {f"STILLHOUSE_GATEWAY__{name.upper()}": str(value) for name, value in names.items() if value is not None}
    config = configuration.find_config(options.config, os.environ, Path.cwd())
    settings = configuration.load(config, {**os.environ, **given}, data=options.data)
    configuration.check_upstreams(settings)
    configuration.check_secrets(settings, os.environ)
    return settings


def _lead(settings: Settings, options: argparse.Namespace) -> int:
    """The process that was started: it prepares the store, holds the port and the metrics, and serves or supervises."""
    gateway = settings.gateway
    listener = listen(gateway.host, gateway.port)
    folder = RunFolder.anew(settings.data / "run" / f"gateway-{os.getpid()}")
    store = open_store(settings.store_url)
    accounts = Accounts(store, settings.spool_folder)
    try:
        with MetricsServer(gateway.metrics_port, lambda: [*folder.read(), accounts.numbers()], gateway.metrics_host):
            _prepare(settings)
            _log.info("listening", address=listener.getsockname()[:2], processes=gateway.workers)
            if gateway.workers == 1:
                return serve(settings, listener, os.environ, Place(), folder)
            return Supervisor(_command(options), listener, gateway.workers, gateway.drain_s).run()
    finally:
        store.close()
        folder.close()


def _work(settings: Settings, options: argparse.Namespace) -> int:
    """One of the supervisor's processes."""
    end_with(options.parent)
    listener = socket.socket(fileno=options.socket_fd)
    folder = RunFolder(settings.data / "run" / f"gateway-{options.parent}")
    place = Place(options.index, settings.gateway.workers)
    return serve(settings, listener, os.environ, place, folder)


def _prepare(settings: Settings) -> None:
    """Tables and the file's tasks. With the store away the gateway starts all the same, by what the file says."""
    store = open_store(settings.store_url)
    try:
        upgrade(store)
        sync_tasks(store, settings)
    except StoreAwayError as error:
        _log.warning("store_away_at_start", detail=str(error)[:200])
    finally:
        store.close()


def _command(options: argparse.Namespace) -> list[str]:
    """How each process of the supervisor is started, but for its socket and index."""
    names = ("config", "data", "host", "port", "workers", "metrics_port")
    given = [(name, getattr(options, name)) for name in names if getattr(options, name) is not None]
    words = [word for name, value in given for word in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, "-m", "gateway", *words]


if __name__ == "__main__":
    sys.exit(main())
