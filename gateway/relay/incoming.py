"""A request's body on its way in: collected whole, or streamed on as it comes, within a bound."""

from gateway.relay import framing
from gateway.relay.framing import RequestFraming
from gateway.relay.pool import Call


class Incoming:
    """Holds body bytes until they are taken whole (`collected`) or an upstream was found to stream them to."""

    __slots__ = ("_bytes", "_framing", "_pieces", "_sink", "complete", "limit")

    def __init__(self, asked: RequestFraming, limit: int) -> None:
        self.complete = False
        self._framing = asked
        self.limit = limit
        self._bytes = 0
        self._pieces: list[bytes] = []
        self._sink: Call | None = None

    @property
    def framing_line(self) -> bytes:
        """How the body's end is told when it is streamed on; empty where there is no body."""
        if self._framing.chunked:
            return framing.CHUNKED_LINE
        return b"" if self._framing.length is None else framing.length_line(self._framing.length)

    @property
    def encoding(self) -> str:
        """The body's content-encoding; empty for none."""
        return self._framing.encoding.decode("latin-1")

    @property
    def expects_continue(self) -> bool:
        return self._framing.expects_continue and not self.complete

    def add(self, data: bytes) -> bool:
        """False when they are too many."""
        self._bytes += len(data)
        if self._bytes > self.limit:
            return False
        if self._sink is None:
            self._pieces.append(data)
        else:
            self._sink.upload(framing.chunk(data) if self._framing.chunked else data, False)
        return True

    def end(self) -> None:
        self.complete = True
        if self._sink is not None:
            self._sink.upload(framing.LAST_CHUNK if self._framing.chunked else b"", True)

    def collected(self) -> bytes:
        """The whole body; it is let go here."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def stream_to(self, call: Call) -> None:
        """What came so far, and from now on whatever comes."""
        pieces, self._pieces = self._pieces, []
        self._sink = call
        for piece in pieces:
            call.upload(framing.chunk(piece) if self._framing.chunked else piece, False)
        if self.complete:
            self.end()

    def stop(self) -> None:
        """Nobody wants the rest."""
        self._sink = None
        self._pieces.clear()
