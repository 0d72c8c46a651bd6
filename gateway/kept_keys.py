"""The gateway keys as last seen in the store, kept on disk: a gateway started while the store is away lets them in.

The file holds digests and limits, never a key, and is readable by its owner alone.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from capture.keys import Key

_log = structlog.get_logger("stillhouse.gateway")
_decoder = msgspec.json.Decoder(dict[str, Key])


class KeptKeys:
    """One file in the data folder, written whole or not at all, and only when something has changed."""

    def __init__(self, data: Path) -> None:
        self._file = data / "secrets" / "known_keys.json"
        self._written: bytes | None = None

    def load(self) -> dict[str, Key]:
        """By digest; empty where there is no file, or none that can be read."""
        try:
            return _decoder.decode(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("known_keys_not_read", error=type(error).__name__)
            return {}

    def save(self, keys: Mapping[str, Key]) -> None:
        """A disk that refuses costs nothing now: it is logged, and tried again with the next snapshot."""
        content = msgspec.json.encode(keys, order="deterministic")
        if content == self._written:
            return
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as out:
                out.write(content)
            draft.replace(self._file)
        except OSError as error:
            _log.warning("known_keys_not_kept", error=error.strerror)
            with suppress(OSError):
                draft.unlink()
            return
        self._written = content
