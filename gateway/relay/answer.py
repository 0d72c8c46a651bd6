"""What a client has been told of one answer so far: its status, its framing, and therefore how it may still end."""

from gateway import errors
from gateway.plan import NAME_CHARACTERS, Refusal
from gateway.relay import framing
from gateway.relay.framing import Ending, ResponseHead


class Answer:
    """Turns an upstream's answer, or one of ours, into the bytes that the client gets."""

    __slots__ = ("_ending", "_http11", "_method", "status")

    def __init__(self, method: str, http11: bool) -> None:
        self.status = 0  # nothing was said yet
        self._method = method
        self._http11 = http11
        self._ending = Ending.CHUNKED

    def open(self, head: ResponseHead, own: bytes, keep_alive: bool) -> bytes:
        self.status = head.status
        self._ending = framing.ending_of(self._method, head, self._http11)
        return framing.response_start(head, self._ending, own, keep_alive)

    def framed(self, data: bytes, end: bool) -> bytes:
        if self._ending is not Ending.CHUNKED:
            return data
        out = framing.chunk(data) if data else b""
        return out + framing.LAST_CHUNK if end else out

    @property
    def may_be_longer(self) -> bool:
        """Whether bytes of our own can still follow: the length was not announced."""
        return self._ending in (Ending.CHUNKED, Ending.CLOSE)

    @property
    def ends_by_closing(self) -> bool:
        return self._ending is Ending.CLOSE

    def refuse(self, refusal: Refusal, own: bytes, keep_alive: bool) -> tuple[bytes, bytes]:
        """(a whole response of our own, its body)."""
        self.status = refusal.status
        body = errors.body(refusal)
        response = framing.refusal_response(refusal, body, keep_alive, own)
        return (response[: len(response) - len(body)] if self._method == "HEAD" else response), body


def own_lines(exchange_id: str, arm: str | None, model: str) -> bytes:
    """Our headers as ready lines; `arm` is None where nothing is captured."""
    if arm is None:
        return b"x-stillhouse-id: %b\r\n" % exchange_id.encode()
    return b"x-stillhouse-id: %b\r\nx-stillhouse-arm: %b\r\nx-stillhouse-model: %b\r\n" % (
        exchange_id.encode(),
        arm.encode(),
        _header_value(model),
    )


def _header_value(text: str) -> bytes:
    """Model names are the clients': what cannot stand in a header is left out, and what is too long."""
    text = text[:NAME_CHARACTERS]
    if text.isascii() and text.isprintable():
        return text.encode()
    return "".join(letter for letter in text if letter.isascii() and letter.isprintable()).encode()
