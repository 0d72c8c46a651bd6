"""Small files that are written once: secrets that several processes may want to make at the same moment."""

import os
import secrets
from pathlib import Path


def write_once(path: Path, content: bytes) -> bytes:
    """What the file holds from now on: `content` where there was none (0600), else what was there.

    Written apart, to the disk, and linked into place: whole or not at all, and of two processes that make it at once
    both get the first one's. The folder is made when missing (0700). Raises OSError.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
    return path.read_bytes()
