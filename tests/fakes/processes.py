"""What tests of real processes need: a free port, the processes of a family, and a bounded wait."""

import socket
import time
from collections.abc import Callable

import psutil

TIMEOUT_S = 30.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def family(pid: int) -> list[psutil.Process]:
    if not psutil.pid_exists(pid):
        return []
    parent = psutil.Process(pid)
    return [*parent.children(recursive=True), parent]


def wait_until(holds: Callable[[], bool], within_s: float = TIMEOUT_S) -> None:
    """Looks every 20 ms; fails when it does not come about in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
