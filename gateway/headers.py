"""Which request headers travel on: all of them, but those of one hop, ours, and credentials meant for somebody else."""

Headers = tuple[tuple[bytes, bytes], ...]

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate te trailer transfer-encoding upgrade "
    b"host content-length expect".split()
)
CREDENTIALS = frozenset(
    b"authorization proxy-authorization api-key x-api-key cookie openai-organization openai-project".split()
)
OURS = b"x-stillhouse-"

_PRIVATE = HOP_BY_HOP | {b"proxy-authorization"}
_OURS_ALONE = _PRIVATE | CREDENTIALS


def forwarded(headers: Headers, extra: Headers = (), *, credentials: bool) -> Headers:
    """The client's headers as the upstream gets them, order kept, then `extra`.

    With `credentials` the client's own go along (they are that upstream's); without, every one of them stays here.
    """
    dropped = _PRIVATE if credentials else _OURS_ALONE
    for name, value in headers:
        if name == b"connection":
            dropped = dropped | {token.strip().lower() for token in value.split(b",")}
    kept = [pair for pair in headers if pair[0] not in dropped and pair[0][:13] != OURS]
    return (*kept, *extra)


def without(headers: Headers, *names: bytes) -> Headers:
    """The headers but those named (lower case)."""
    return tuple(pair for pair in headers if pair[0] not in names)
