"""What is written during one turn of the event loop: sent together at its end, in its order, and before a close."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.relay.gathering import Gathering

LARGE = b"x" * 20_000


class Socket(asyncio.Transport):
    """Remembers what was done to it, in order."""

    def __init__(self, log: list[tuple[str, bytes]], name: str) -> None:
        self._log, self._name, self.closing = log, name, False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._log.append((self._name, bytes(data)))

    def close(self) -> None:
        self.closing = True
        self._log.append((self._name, b"(close)"))

    def write_eof(self) -> None:
        self._log.append((self._name, b"(eof)"))

    def abort(self) -> None:
        self.closing = True
        self._log.append((self._name, b"(abort)"))

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self._log.append((self._name, b"(pause)"))

    def resume_reading(self) -> None:
        self._log.append((self._name, b"(resume)"))


class Loop:
    """Ends its turn when it is told to."""

    def __init__(self) -> None:
        self.ends: list[Callable[[], None]] = []
        self.log: list[tuple[str, bytes]] = []

    def transport(self, name: str) -> Gathering:
        return Gathering(Socket(self.log, name), self.ends.append)

    def end(self) -> None:
        ends, self.ends[:] = self.ends.copy(), []
        for end in ends:
            end()


def test_a_turns_writes_go_out_together_at_its_end() -> None:
    loop = Loop()
    one, other = loop.transport("one"), loop.transport("other")
    one.write(b"head ")
    other.write(b"all")
    one.write(b"body")
    assert loop.log == []
    assert len(loop.ends) == 2  # one a connection
    loop.end()
    assert loop.log == [("one", b"head body"), ("other", b"all")]
    one.write(b"next")
    loop.end()
    assert loop.log[2:] == [("one", b"next")]


def test_what_is_large_does_not_wait_nor_what_came_before_it() -> None:
    loop = Loop()
    one = loop.transport("one")
    one.write(b"head")
    one.write(LARGE)
    one.write(b"tail")
    assert loop.log == [("one", b"head"), ("one", LARGE)]
    loop.end()
    assert loop.log[2:] == [("one", b"tail")]


@pytest.mark.parametrize(
    ("end", "told"), [(Gathering.close, b"(close)"), (Gathering.write_eof, b"(eof)")], ids=["close", "eof"]
)
def test_a_connection_ends_after_what_was_written(end: Callable[[Gathering], None], told: bytes) -> None:
    loop = Loop()
    one = loop.transport("one")
    one.write(b"bye")
    end(one)
    loop.end()
    assert loop.log == [("one", b"bye"), ("one", told)]


def test_nothing_follows_an_end() -> None:
    loop = Loop()
    one = loop.transport("one")
    one.write_eof()
    one.write(b"late")
    one.write(LARGE)
    one.write_eof()
    loop.end()
    assert loop.log == [("one", b"(eof)")]
    one.close()
    one.write(b"later")
    one.write_eof()
    loop.end()
    assert loop.log == [("one", b"(eof)"), ("one", b"(close)")]


def test_reading_is_paused_and_resumed_at_once() -> None:
    loop = Loop()
    one = loop.transport("one")
    one.write(b"held")
    one.pause_reading()
    one.resume_reading()
    assert loop.log == [("one", b"(pause)"), ("one", b"(resume)")]
    loop.end()
    assert loop.log[2:] == [("one", b"held")]


def test_nothing_is_sent_on_a_connection_that_broke() -> None:
    loop = Loop()
    one, other = loop.transport("one"), loop.transport("other")
    one.write(b"never")
    other.write(b"still")
    one.abort()
    loop.end()
    assert loop.log == [("one", b"(abort)"), ("other", b"still")]


async def test_a_real_turn_ends_before_the_loop_waits_for_anything() -> None:
    log: list[tuple[str, bytes]] = []
    one = Gathering(Socket(log, "one"), asyncio.get_running_loop().call_soon)
    one.write(b"now")
    await asyncio.sleep(0)
    assert log == [("one", b"now")]
