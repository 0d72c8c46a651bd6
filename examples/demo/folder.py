"""The demo's data folder between two starts: an unfinished demo goes on, an ended or spoilt one begins anew."""

import shutil
from pathlib import Path

DONE = "done"
"""A file: the last demo came to its end."""

SPOILT = "spoilt"
"""A file: the last demo made its student worse, so that it cannot be rolled out again."""

MODELS = "models"
"""A folder: the base models, fetched once."""


def goes_on(data: Path) -> bool:
    """Whether a demo that starts in `data` may take up what lies there."""
    return not any((data / mark).exists() for mark in (DONE, SPOILT))


def make_room(data: Path) -> None:
    """Deletes what an ended demo left, but for the base models; the marks last, so that it can be done again."""
    for path in sorted(data.iterdir(), key=lambda path: path.name in (DONE, SPOILT)):
        if path.name == MODELS:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
