"""A whole gateway process's server in a thread: app, relay, spool and store, on a real socket."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

import uvicorn
import uvloop
from fastapi import FastAPI

from capture import segments, spool
from capture.exchange import Exchange, decode
from capture.settings import Settings
from gateway.app import create_app, open_all
from gateway.relay.downstream import RelayProtocol


class GatewayServer:
    """`with GatewayServer(settings) as gateway:` serves on 127.0.0.1:`gateway.port` until the block ends."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.app: FastAPI = create_app(settings, open_all(settings), environ or {}, clock=clock)
        self.settings = settings
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        config = uvicorn.Config(
            self.app,
            http=RelayProtocol,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.server.serve(sockets=[self._listener]))

    def __enter__(self) -> "GatewayServer":
        self.thread.start()
        deadline = time.monotonic() + 10
        while not self.server.started:
            assert time.monotonic() < deadline, "the gateway did not start"
            assert self.thread.is_alive(), "the gateway ended at its start"
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.should_exit = True
        self.thread.join(15)
        assert not self.thread.is_alive(), "the gateway did not end"

    @property
    def exchanges(self) -> list[Exchange]:
        """What is in the spool now."""
        found = [file for folder in spool.folders(self.settings.spool_folder) for file, _ in segments.listed(folder)]
        chunks = [segments.read(file, 0, closed=False, limit=10**6, limit_bytes=2**24) for file in found]
        return [decode(record) for chunk in chunks for record in chunk.records]
