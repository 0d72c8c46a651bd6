"""Who asks: the gateway key of a request, told from its headers alone."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from capture.keys import PREFIX, Key
from gateway.headers import Headers
from gateway.plan import Refusal

HEADER = b"x-stillhouse-key"
_PREFIX = PREFIX.encode()


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks. `key` is None where keys are off; `by_bearer`: the key came in `Authorization`."""

    key: Key | None = None
    by_bearer: bool = False

    @property
    def id(self) -> str | None:
        return self.key.id if self.key else None

    def may_use(self, task: str | None) -> bool:
        """A key scoped to tasks may ask for these alone."""
        return self.key is None or not self.key.tasks or task in self.key.tasks

    def owns(self, key_id: str | None) -> bool:
        """Whether what that key made is this caller's to use; None: everybody's. Without keys there is one tenant."""
        return self.key is None or key_id in (None, self.key.id)


NOBODY = Caller()
_KEYS_AWAY = Refusal(
    503,
    "The gateway cannot look up its keys now: the store is away. Try again soon.",
    type="server_error",
    code="store_away",
    headers=((b"retry-after", b"2"),),
)


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets callers in. The attempted key is compared by its digest, and never echoed."""

    mode: Literal["off", "required"]
    pepper: bytes
    _keyed: hmac.HMAC = field(init=False, repr=False, compare=False)  # the pepper worked in: half of each digest's cost

    def __post_init__(self) -> None:
        object.__setattr__(self, "_keyed", hmac.new(self.pepper, digestmod="sha256"))

    def admit(
        self, headers: Headers, keys: Mapping[str, Key], now: float, *, complete: bool = True
    ) -> Caller | Refusal:
        """The caller, or a 401. `keys` is by digest; `now` in Unix seconds.

        While not all keys are known (`complete` is false: the store has been away since the start), an unknown one
        gets a 503 and a time to come again, since it may well be good.
        """
        if self.mode == "off":
            return NOBODY
        given, token = _given(headers)
        if not token:
            return _refused("This gateway needs a key of its own: send it as x-stillhouse-key.")
        key = keys.get(self._digest_of(token))
        if key is None:
            return _refused("The gateway key is not valid.") if complete else _KEYS_AWAY
        if not key.usable(now):
            return _refused("The gateway key has expired or was revoked.")
        return Caller(key, by_bearer=not given)

    def _digest_of(self, token: str) -> str:
        """As `capture.keys.digest_of` has it."""
        digest = self._keyed.copy()
        digest.update(token.encode("utf-8", "replace"))
        return digest.hexdigest()


def _given(headers: Headers) -> tuple[bool, str | None]:
    """Whether a key came in its own header, and the first one that came."""
    own_bearer: str | None = None
    for name, value in headers:
        if name == HEADER:
            return True, value.decode("latin-1")
        if name == b"authorization" and own_bearer is None and value[:7].lower() == b"bearer ":
            token = value[7:].strip()
            own_bearer = token.decode("latin-1") if token.startswith(_PREFIX) else ""
    return False, own_bearer


def _refused(message: str) -> Refusal:
    return Refusal(401, message, type="authentication_error", code="invalid_api_key")
