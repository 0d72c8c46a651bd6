"""What is installed is all that the rooms hold: a wheel, built as the image builds it, has every file."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("capture", "students", "gateway", "console")


@pytest.mark.timeout(300)
def test_a_wheel_has_every_file_of_the_rooms(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for room in ROOMS:
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    line = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*line, "--wheel-dir", str(tmp_path), "."], cwd=tree, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    written = {str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()}
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in written if "__pycache__" not in name} - packed == set()
    assert {"console/template.toml", "capture/migrations/script.py.mako"} <= packed
