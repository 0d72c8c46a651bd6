"""What a console sees of processes that are up: a port that accepts, circuits, and heartbeats in the store."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time

from sqlalchemy import update

from capture.db import Store, open_store
from console.reads.upstreams import CIRCUIT
from students.tables import fine_tunes, leases, student_servers

CIRCUITS = f'{CIRCUIT}{{upstream="stand-in"}} 0\n{CIRCUIT}{{upstream="spare"}} 2\n'
BEAT_S = 5.0
BEGUN_S = 65.0
"""How long ago the fine-tune under way seems to have begun, however long the pictures take."""


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CIRCUITS.encode())

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def answering() -> Iterator[int]:
    """The port of something that accepts connections and tells the circuits, as a gateway does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    thread = threading.Thread(target=server.serve_forever, name="gateway")
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def beating(folder: Path) -> Iterator[None]:
    """A worker and a student server that go on writing that they are there."""
    store, stop = open_store(f"sqlite:///{folder / 'stillhouse.db'}"), threading.Event()
    thread = threading.Thread(target=_beat, args=(store, stop), name="heartbeats")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        store.close()


def _beat(store: Store, stop: threading.Event) -> None:
    while True:
        with store.write() as connection:
            connection.execute(update(leases).values(ticked_at=time()))
            connection.execute(update(student_servers).values(seen_at=time()))
            moving = update(fine_tunes).where(fine_tunes.c.state == "running")
            connection.execute(moving.values(started_at=time() - BEGUN_S))
        if stop.wait(BEAT_S):
            return
