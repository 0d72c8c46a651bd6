"""The demo's data folder between two starts: an unfinished demo goes on, an ended or spoilt one begins anew."""

import shutil
from pathlib import Path

from capture.errors import RefusedError

CONFIG = "stillhouse.toml"
FIRST_LINE = "# Written by the demo."
"""Of the settings: a folder that has them is a demo's."""

DONE = "done"
"""A file: the last demo came to its end."""

SPOILT = "spoilt"
"""A file: the last demo made its student worse, so that it cannot be rolled out again."""

MODELS = "models"
"""A folder: the base models, fetched once."""


def check_folder(data: Path) -> None:
    """Raises RefusedError for a folder with other things in it than a demo's: there is somebody's work in it."""
    config = data / CONFIG
    if config.is_file():
        with config.open("rb") as lines:
            free = lines.readline().rstrip() == FIRST_LINE.encode()
    else:
        free = not data.exists() or {path.name for path in data.iterdir()} <= {MODELS}
    if not free:
        raise RefusedError(f"{data} is neither empty nor a demo's: name another folder (make demo DEMO_DATA=FOLDER)")


def goes_on(data: Path) -> bool:
    """Whether a demo that starts in `data` may take up what lies there."""
    return not any((data / mark).is_file() for mark in (DONE, SPOILT))


def make_room(data: Path) -> None:
    """Deletes what an ended demo left, but for base models; marks and settings last, so that it can be done again."""
    for path in sorted(data.iterdir(), key=lambda path: (path.name == CONFIG, path.name in (DONE, SPOILT))):
        if path.name == MODELS:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
