"""Where a peer starts and what it is told: plain data between the peers and the run."""

from dataclasses import dataclass, field
from pathlib import Path

KEY = "sk-bench"


@dataclass(frozen=True)
class Ground:
    """What one start of a peer gets: a folder of its own, its port, one to spare, and the upstream's port."""

    cache: Path
    folder: Path
    port: int
    spare: int
    upstream: int

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text, encoding="utf-8")
        return file


@dataclass(frozen=True)
class Launch:
    """A command, what its environment adds, and the headers that its clients send."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = (f"authorization: Bearer {KEY}",)
