"""What peers run in: environments of their own under a cache folder, built here when they are not there yet."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"
_BUILD_TIMEOUT_S = 1200


class AbsentError(Exception):
    """A peer cannot run on this machine; the text says why, and the table repeats it."""


def python_environment(cache: Path, name: str) -> Path:
    """The `bin` folder of a virtual environment made from `locks/NAME.txt`, hashes checked; AbsentError."""
    lock = LOCKS / f"{name}.txt"
    folder = cache / f"{name}-{_digest(lock)}"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        _run([*pip, "--no-deps", "--require-hashes", "-r", str(lock)])
        (folder / "ready").touch()
    return folder / "bin"


def node_environment(cache: Path, name: str) -> Path:
    """The `node_modules` folder made from `locks/NAME/package-lock.json`. Raises AbsentError."""
    if shutil.which("npm") is None:
        raise AbsentError("npm is not installed here")
    source = LOCKS / name
    folder = cache / f"{name}-{_digest(source / 'package-lock.json')}"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)])
        (folder / "ready").touch()
    return folder / "node_modules"


def debian_command(command: str, package: str) -> str:
    """The path of a command, its Debian package installed where it is missing. Raises AbsentError."""
    path = _command(command)
    if path is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise AbsentError(f"{command} is not installed: apt-get install {package}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        _run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package], environment)
        path = _command(command)
    if path is None:
        raise AbsentError(f"the package {package} brings no {command}")
    return path


def python_version(bin_folder: Path, package: str) -> str:
    """The version of a package as its environment has it."""
    asking = f"import importlib.metadata as m; print(m.version({package!r}))"
    return said_by([str(bin_folder / "python"), "-c", asking])


def node_version(modules: Path, package: str) -> str:
    return str(json.loads((modules / package / "package.json").read_text(encoding="utf-8"))["version"])


def said_by(command: list[str]) -> str:
    """The first line that a command prints, on whichever stream."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return (ran.stdout.strip() or ran.stderr.strip()).splitlines()[0]


def _command(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    try:
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AbsentError(f"{Path(command[0]).name}: {type(error).__name__}") from error
    if ran.returncode != 0:
        lines = [line for line in ran.stderr.splitlines() if line.strip()] or ["no reason given"]
        wanted = [line for line in lines if "error" in line.lower()] or lines
        reason = re.sub(r"\w+://\S+", "…", wanted[-1].strip())[:160]
        raise AbsentError(f"{Path(command[0]).name} failed: {reason}")
