"""A request's body on its way in: collected whole, or streamed on as it comes, within bounds."""

from gateway.plan import Refusal
from gateway.relay import framing
from gateway.relay.framing import RequestFraming
from gateway.relay.held import Held
from gateway.relay.pool import Call

TOO_LARGE = Refusal(413, "The request's body is too large.", code="body_too_large")
OVERLOADED = Refusal(
    503,
    "The gateway holds as many request bodies as it can. Try again soon.",
    type="server_error",
    code="overloaded",
    headers=((b"retry-after", b"1"),),
)


class Incoming:
    """Holds body bytes until the exchange is over (`collected`), or until an upstream was found to stream them to."""

    __slots__ = ("_bytes", "_framing", "_held", "_pieces", "_sink", "_taken", "complete", "limit")

    def __init__(self, asked: RequestFraming, limit: int, held: Held) -> None:
        self.complete = False
        self._framing = asked
        self.limit = limit
        self._held = held
        self._taken = 0  # of `_held`
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
        return self._framing.encoding.decode("latin-1") if self._framing.encoding else ""

    @property
    def expects_continue(self) -> bool:
        return self._framing.expects_continue and not self.complete

    @property
    def expected(self) -> bool:
        """Whether there is a body at all."""
        return self._framing.chunked or bool(self._framing.length)

    @property
    def held(self) -> int:
        """Bytes that wait here."""
        return self._taken

    def add(self, data: bytes) -> Refusal | None:
        """Why the body is not taken, or None."""
        self._bytes += len(data)
        if self._bytes > self.limit:
            return TOO_LARGE
        if self._sink is not None:
            self._sink.upload(framing.chunk(data) if self._framing.chunked else data, False)
            return None
        self._pieces.append(data)
        self._taken += len(data)
        return None if self._held.take(len(data)) else OVERLOADED

    def end(self) -> None:
        self.complete = True
        if self._sink is not None:
            self._sink.upload(framing.LAST_CHUNK if self._framing.chunked else b"", True)

    def beginning(self) -> bytes:
        """What came so far; it stays here."""
        return b"".join(self._pieces)

    def collected(self) -> bytes:
        """The whole body. It counts as held until `stop`: a leg and a record refer to it."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def stream_to(self, call: Call) -> None:
        """What came so far, and from now on whatever comes."""
        pieces, self._pieces = self._pieces, []
        self._let_go()
        self._sink = call
        for piece in pieces:
            call.upload(framing.chunk(piece) if self._framing.chunked else piece, False)
        if self.complete:
            self.end()

    def stop(self) -> None:
        """Nobody wants the rest, or the exchange is over."""
        self._sink = None
        self._pieces.clear()
        self._let_go()

    def _let_go(self) -> None:
        if self._taken:
            self._held.give_back(self._taken)
            self._taken = 0
