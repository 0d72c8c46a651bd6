"""Who asks: the gateway key of a request, told from its headers alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from capture.keys import PREFIX, Key, digest_of
from gateway.headers import Headers, bearer
from gateway.plan import Refusal

HEADER = b"x-stillhouse-key"


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


NOBODY = Caller()


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets callers in. The attempted key is compared by its digest, and never echoed."""

    mode: Literal["off", "required"]
    pepper: bytes

    def admit(self, headers: Headers, keys: Mapping[str, Key], now: float) -> Caller | Refusal:
        """The caller, or a 401. `keys` is by digest; `now` in Unix seconds."""
        if self.mode == "off":
            return NOBODY
        given = next((value for name, value in headers if name == HEADER), None)
        token = given.decode("latin-1") if given is not None else _own_bearer(headers)
        if not token:
            return _refused("This gateway needs a key of its own: send it as x-stillhouse-key.")
        key = keys.get(digest_of(token, self.pepper))
        if key is None:
            return _refused("The gateway key is not valid.")
        if not key.usable(now):
            return _refused("The gateway key has expired or was revoked.")
        return Caller(key, by_bearer=given is None)


def _own_bearer(headers: Headers) -> str | None:
    token = bearer(headers)
    return token if token and token.startswith(PREFIX) else None


def _refused(message: str) -> Refusal:
    return Refusal(401, message, type="authentication_error", code="invalid_api_key")
