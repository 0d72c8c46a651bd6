"""A spool killed at every system call, and a shipper killed for real: what was acknowledged is stored once."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from capture import spool as spool_module
from capture.exchange import encode
from capture.reconcile import Balance
from capture.spool import Spool, folders
from tests.factories.exchanges import new_exchange
from tests.factories.spooled import Rig, put

CALLS = ("open", "write", "fsync", "fdatasync", "close", "mkdir", "rename")


class Killed(BaseException):
    """Stands for `kill -9`: nothing after it runs."""


@contextmanager
def killed_at_call(number: int, torn: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Raises Killed at the n-th system call; of a write, a part (`torn`) is done first. Yields the calls made."""
    made: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) != number:
                return call(*arguments, **options)
            if name == "write" and torn:
                call(arguments[0], bytes(arguments[1])[: int(len(arguments[1]) * torn)])
            raise Killed

        return wrapper

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield made


def live(root: Path, acknowledged: list[str]) -> None:
    """A process's life: opens a spool, appends through several segments, closes."""
    spool = Spool(root, segment_bytes=1500, fsync="always")
    for _ in range(4):
        exchange = new_exchange()
        if spool.append(encode(exchange), exchange.task):
            acknowledged.append(exchange.id)
    spool.close()


def buried(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What death does: every descriptor that a spool holds is closed, and with it the lock let go."""
    held: set[int] = set()
    real_open, real_close = os.open, os.close

    def noted_open(*arguments: Any, **options: Any) -> int:
        descriptor = real_open(*arguments, **options)
        held.add(descriptor)
        return descriptor

    def noted_close(descriptor: int) -> None:
        held.discard(descriptor)
        real_close(descriptor)

    monkeypatch.setattr(os, "open", noted_open)
    monkeypatch.setattr(os, "close", noted_close)

    def bury() -> None:
        for descriptor in held:
            real_close(descriptor)

    return bury


@pytest.mark.parametrize("torn", [0.0, 0.001, 0.5, 0.999, 1.0])
def test_killed_at_any_system_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: float) -> None:
    class NoThread:
        """The syncing thread would make the order of calls a matter of luck."""

        def __init__(self, **_: object) -> None: ...
        def start(self) -> None: ...
        def join(self) -> None: ...

    monkeypatch.setattr(spool_module.threading, "Thread", NoThread)
    monkeypatch.setattr(spool_module, "UNBORN_S", -1)
    number = 0
    survived = False
    rig = Rig(tmp_path)
    stored: list[str] = []
    extra = 0
    while not survived:
        number += 1
        acknowledged: list[str] = []
        with monkeypatch.context() as patch:
            bury = buried(patch)
            with killed_at_call(number, torn, patch) as made:
                try:
                    live(rig.settings.spool_folder, acknowledged)
                    survived = True
                except Killed:
                    pass
            bury()
        before = len(rig.ids())
        rig.ship_all()
        ids = rig.ids()
        assert set(acknowledged) <= set(ids), made
        assert len(ids) - before - len(acknowledged) in (0, 1)  # written, and killed before it could be acknowledged
        extra += len(ids) - before - len(acknowledged)
        stored += acknowledged
        assert all(balance.difference == 0 for balance in rig.balance().values())
        assert list(rig.settings.spool_folder.glob("*")) == []
    assert number > 25
    assert len(rig.ids()) == len(stored) + extra
    rig.close()


def test_shippers_killed_for_real(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    spool = rig.spool(segment_bytes=20_000)
    ids = put(spool, *(new_exchange() for _ in range(120)))
    spool.close()
    code = (
        "import sys; from pathlib import Path; from tests.factories.spooled import Rig\n"
        "shipper = Rig(Path(sys.argv[1])).shipper()\n"
        "while shipper.ship_once(3): print('shipped', flush=True)\n"
    )
    for batches in (1, 4, 7):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": "."},
        )
        assert child.stdout is not None
        for _ in range(batches):
            assert child.stdout.readline() == b"shipped\n"
        child.send_signal(signal.SIGKILL)
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
    shipped = len(rig.ids())
    assert 36 <= shipped < 120
    rig.ship_all()
    assert rig.ids() == sorted(ids)
    assert rig.balance() == {"triage": Balance(seen=120, stored=120)}
    assert folders(rig.settings.spool_folder) == []
    rig.close()
