"""One gateway process: uvicorn with the relay's protocol on a socket that somebody else may have opened."""

import gc
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Mapping

import uvicorn

from capture.errors import OperationError
from capture.settings import Settings
from gateway.app import Place, create_app, open_all
from gateway.relay.downstream import RelayProtocol
from gateway.run_folder import RunFolder

BACKLOG = 2048
WATCH_PARENT_S = 1.0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OperationError when the address is taken or is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise OperationError(f"{host}:{port} cannot be listened on ({reason}): free it or set gateway.port") from error
    return listener


def serve(
    settings: Settings, listener: socket.socket, environ: Mapping[str, str], place: Place, shared: RunFolder
) -> int:
    """Opens what it needs and serves until SIGTERM or SIGINT, then drains.

    Draining: no new connections, streams end, `drain_s` at most. Returns the exit status: 0, or 1 when the app could
    not start (why was logged). Raises DiskError.
    """
    config = uvicorn.Config(
        create_app(settings, open_all(settings), environ, place, shared),
        http=RelayProtocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=max(1, int(settings.gateway.drain_s)),
    )
    server = uvicorn.Server(config)
    _take_descriptors()
    gc.collect()
    gc.freeze()  # what lives as long as the process is not looked through again: no pauses for it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises what it caught once more, after the drain
    try:
        server.run(sockets=[listener])
    except SystemExit:  # uvicorn's way to say that the lifespan failed
        return 1
    return 0


def _take_descriptors() -> None:
    """As many open files as the system lets us have: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_with(parent: int) -> None:
    """Ends this process, as SIGTERM would, once its supervisor (`parent`, a process id) is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_PARENT_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
