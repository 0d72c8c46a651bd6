"""Fields that a task's redaction replaces whole or leaves alone: by name at any depth, or by JSON pointer. Pure."""

from capture.settings import RedactionSettings

Path = tuple[str, ...]


class Fields:
    """`deny` and `allow` of a task; where both name a field, it is replaced."""

    def __init__(self, settings: RedactionSettings) -> None:
        self._rules = [(given, True) for given in map(_parts, settings.deny)]
        self._rules += [(given, False) for given in map(_parts, settings.allow)]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def is_denied(self, path: Path) -> bool | None:
        """True: replaced whole; False: left as it is; None: nothing is said of it. `path`: names and indexes."""
        return next((verdict for (rooted, parts), verdict in self._rules if _fits(rooted, parts, path)), None)


def _parts(given: str) -> tuple[bool, Path]:
    """Whether it is a pointer (RFC 6901), and its parts; else one name, whose case does not matter."""
    if not given.startswith("/"):
        return False, (given.casefold(),)
    return True, tuple(part.replace("~1", "/").replace("~0", "~") for part in given[1:].split("/"))


def _fits(rooted: bool, parts: Path, path: Path) -> bool:
    if not rooted:
        return bool(path) and path[-1].casefold() == parts[0]
    return len(parts) == len(path) and all(part in ("*", here) for part, here in zip(parts, path, strict=True))
