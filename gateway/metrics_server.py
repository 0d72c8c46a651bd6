"""The metrics port: each gateway process writes its numbers into a file a second, one server answers with the sum."""

import http.server
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType

import msgspec
import structlog
from fastapi import FastAPI

from capture.errors import OperationError
from gateway.metrics import Numbers, circuits, counted, exposition, histograms, looped, measured
from gateway.run_folder import RunFolder

INTERVAL_S = 1.0

_log = structlog.get_logger("stillhouse.gateway")


class Publisher:
    """Writes this process's numbers into the folder, by a thread, until it is closed: once more then."""

    def __init__(self, folder: RunFolder, app: FastAPI) -> None:
        self._file = folder.path / f"{os.getpid()}.numbers"
        self._app = app
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(INTERVAL_S * 5)

    def write(self) -> None:
        """Whole or not at all."""
        draft = self._file.with_suffix(".part")
        draft.write_bytes(msgspec.msgpack.encode(numbers_of(self._app)))
        draft.replace(self._file)

    def _run(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(INTERVAL_S)
            try:
                self.write()
            except Exception as error:  # noqa: BLE001 -- the loop's edge: logged, and on it goes
                _log.warning("metrics_not_written", error=type(error).__name__)


def numbers_of(app: FastAPI) -> Numbers:
    """What a process's app counts and measures, while its spool is open."""
    state = app.state
    spool = state.spool
    age_s = max(0.0, state.clock() - state.snapshots.current.read_at) if state.snapshots.current.from_store else 0.0
    gauges = measured(state.counters, spool.depth(), age_s, state.snapshots.degraded)
    counts = counted(state.counters, state.tally, spool.counters.totals().items())
    return Numbers(
        (*counts, *gauges, *looped(state.lag), *circuits(state.breakers)), histograms(state.counters, state.lag)
    )


class _IPv6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


class MetricsServer:
    """Answers `GET /metrics` from a thread of its own. Raises OperationError when the port is taken."""

    def __init__(self, port: int, read: Callable[[], list[Numbers]], host: str = "127.0.0.1") -> None:
        try:
            self._server = (_IPv6 if ":" in host else http.server.ThreadingHTTPServer)((host, port), _handler(read))
        except OSError as error:
            reason = f"{host}:{port} cannot be listened on ({error.strerror})"
            raise OperationError(f"metrics: {reason}: free it or set gateway.metrics_port") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics port", daemon=True)

    def __enter__(self) -> "MetricsServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(read: Callable[[], list[Numbers]]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10
        server_version = "stillhouse"
        sys_version = ""

        def do_GET(self) -> None:
            known = self.path.partition("?")[0] == "/metrics"
            body = exposition(read()) if known else b"see /metrics\n"
            self.send_response(200 if known else 404)
            self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
            """Scrapes are not logged."""

    return Handler
